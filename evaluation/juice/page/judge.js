"use strict"
const $ = id => document.getElementById(id)
let questions = [], examples = [], rater = "", task = null, shownAt = 0, answers = {}, current = 0, sending = false

function show(id) {
  for (const section of document.querySelectorAll("section")) section.classList.toggle("hidden", section.id !== id)
  for (const video of document.querySelectorAll("video")) if (!video.closest(".hidden")) continue; else video.pause()
}

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }
  const response = await fetch(path, options)
  if (!response.ok) {
    const text = await response.text()
    let message = text
    try { message = JSON.parse(text).error } catch { /* not JSON: shown as it is */ }
    throw new Error(message)
  }
  return response.json()
}

/* Both videos start together, and the second one follows the first. */
function playInStep(first, second, sources) {
  const videos = [first, second]
  videos.forEach((video, i) => { video.src = "/video/" + sources[i]; video.load() })
  const ready = videos.map(video => new Promise(done => { video.oncanplaythrough = done; video.onerror = done }))
  const stamp = sources.join()
  first.dataset.stamp = stamp
  Promise.all(ready).then(() => {
    if (first.dataset.stamp !== stamp) return
    for (const video of videos) { video.currentTime = 0; video.play().catch(() => {}) }
  })
  first.ontimeupdate = () => {
    if (Math.abs(first.currentTime - second.currentTime) > 0.06 && !second.seeking) second.currentTime = first.currentTime
  }
}

function showExample(i) {
  if (i >= examples.length) { localStorage.setItem("juice-trained-" + rater, "1"); return nextTask() }
  const example = examples[i]
  show("training")
  $("example-question").textContent = example.question
  $("example-reason").textContent = example.reason
  $("example-text").textContent = example.explanation
  $("example-count").textContent = `${i + 1} of ${examples.length}`
  playInStep($("example-better"), $("example-worse"), [example.better, example.worse])
  $("example-next").onclick = () => showExample(i + 1)
  $("example-skip").onclick = () => showExample(examples.length)
}

function showTask(next) {
  task = next.task
  if (!task) return show("end")
  show("judging")
  answers = Object.fromEntries(questions.map(q => [q.key, { side: null, reasons: new Set() }]))
  current = 0
  shownAt = performance.now()
  $("prompt").textContent = task.prompt
  $("error").textContent = ""
  $("progress").value = next.done / next.total
  $("count").textContent = `${next.done} of ${next.total}`
  playInStep($("left"), $("right"), [task.left, task.right])
  draw()
}

function element(name, properties, ...children) {
  const node = Object.assign(document.createElement(name), properties)
  node.append(...children)
  return node
}

function draw() {
  $("questions").replaceChildren(...questions.map((question, i) => {
    const answer = answers[question.key]
    const sides = ["left", "right"].map(side => {
      const button = element("button", { textContent: side, onclick: () => choose(i, side) })
      button.dataset.side = side
      button.setAttribute("aria-pressed", String(answer.side === side))
      return button
    })
    const reasons = question.reasons.map((reason, n) => {
      const box = element("input", { type: "checkbox", checked: answer.reasons.has(reason.key), onchange: () => tick(i, n) })
      box.dataset.reason = reason.key
      return element("label", { title: reason.explanation }, box, ` ${n + 1} ${reason.label}`)
    })
    const block = element("div", { className: "question" + (i === current ? " current" : ""), onclick: () => focusOn(i) },
      element("p", { textContent: question.text }), element("div", { className: "sides" }, ...sides),
      element("div", { className: "reasons" }, ...reasons))
    block.dataset.question = question.key
    return block
  }))
  $("submit").disabled = sending || !questions.every(q => answers[q.key].side && answers[q.key].reasons.size)
}

/* No draw(): a click on a checkbox has no effect if the click on its block replaces it. */
function focusOn(i) {
  current = i
  for (const [n, block] of [...$("questions").children].entries()) block.classList.toggle("current", n === i)
}
function choose(i, side) { current = i; answers[questions[i].key].side = side; draw() }
function tick(i, n) {
  current = i
  const reason = questions[i].reasons[n], reasons = answers[questions[i].key].reasons
  if (!reason) return
  if (!reasons.delete(reason.key)) reasons.add(reason.key)
  draw()
}

async function submit() {
  if ($("submit").disabled) return
  sending = true
  draw()
  const given = Object.fromEntries(Object.entries(answers).map(([key, a]) => [key, { side: a.side, reasons: [...a.reasons] }]))
  try {
    const next = await call("/api/vote", { rater, task: task.key, answers: given, seconds: (performance.now() - shownAt) / 1000 })
    sending = false
    showTask(next)
  } catch (error) {
    sending = false
    $("error").textContent = "The vote was not saved: " + error.message
    draw()
  }
}

async function nextTask() {
  try { showTask(await call("/api/next", { rater })) } catch (error) { show("start"); $("start-error").textContent = error.message }
}

/* The page may be used before its questions have arrived: the name that somebody types meanwhile stays. */
const loaded = call("/api/questions").then(result => { ({ questions, examples } = result) })
loaded.catch(error => { $("start-error").textContent = error.message })
$("name").value = localStorage.getItem("juice-name") || ""
$("name").focus()

$("name-form").onsubmit = async event => {
  event.preventDefault()
  try { await loaded } catch { return }  // said below the form
  rater = $("name").value.trim().replace(/\s+/g, " ")
  localStorage.setItem("juice-name", rater)
  if (localStorage.getItem("juice-trained-" + rater)) nextTask(); else showExample(0)
}
$("submit").onclick = submit

document.onkeydown = event => {
  if ($("judging").classList.contains("hidden") || event.ctrlKey || event.altKey || event.metaKey) return
  const digit = Number(event.key)
  if (event.key === "ArrowLeft") choose(current, "left")
  else if (event.key === "ArrowRight") choose(current, "right")
  else if (event.key === "Tab" || event.key === "ArrowDown") focusOn((current + 1) % questions.length)
  else if (event.key === "ArrowUp") focusOn((current + questions.length - 1) % questions.length)
  else if (event.key === "Enter") submit()
  else if (event.key === " ") for (const id of ["left", "right"]) $(id).paused ? $(id).play() : $(id).pause()
  else if (digit >= 1 && digit <= questions[current].reasons.length) tick(current, digit - 1)
  else return
  event.preventDefault()
}
