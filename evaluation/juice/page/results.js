"use strict"
const percent = value => value === null ? "–" : (100 * value).toFixed(1) + " %"
const number = value => value === null ? "–" : value.toFixed(2)
const SVG = "http://www.w3.org/2000/svg"

function table(head, rows) {
  const result = document.createElement("table")
  for (const [i, cells] of [head, ...rows].entries()) {
    const row = result.insertRow()
    for (const cell of cells) {
      const node = document.createElement(i ? "td" : "th")
      node.textContent = cell
      row.append(node)
    }
  }
  return result
}

function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value)
  if (text !== undefined) node.textContent = text
  return node
}

/* Two bars for each reason: the share of the votes for A, and for B, that tick it. */
function chart(reasons, labels) {
  const entries = Object.entries(reasons), height = 40 * entries.length + 24
  const root = svg("svg", { viewBox: `0 0 760 ${height}`, width: "100%", role: "img" })
  entries.forEach(([key, shares], i) => {
    root.append(svg("text", { x: 250, y: 40 * i + 25, "text-anchor": "end", fill: "currentColor", "font-size": 14 }, labels[key]))
    shares.forEach((share, arm) => {
      const y = 40 * i + 6 + 16 * arm
      root.append(svg("rect", { x: 260, y, width: 420 * (share ?? 0), height: 14, fill: arm ? "#f0a35a" : "#5aa9ff" }))
      root.append(svg("text", { x: 266 + 420 * (share ?? 0), y: y + 12, fill: "currentColor", "font-size": 12 }, "AB"[arm] + " " + percent(share)))
    })
  })
  return root
}

function blocks(outcomes, data, suffix) {
  return Object.entries(outcomes).flatMap(([key, outcome]) => {
    const title = document.createElement("h2")
    title.textContent = data.questions[key] + suffix
    return [title, table(["pairs", "votes", "A wins", "95 % interval", "split", "complete", "Fleiss' κ"],
      [[outcome.pairs, outcome.votes, percent(outcome.win_rate), `${percent(outcome.low)} to ${percent(outcome.high)}`,
        percent(outcome.split), percent(outcome.complete), number(outcome.kappa)]]), chart(outcome.reasons, data.labels)]
  })
}

async function refresh() {
  try {
    const response = await fetch("/api/results")
    if (!response.ok) throw new Error(await response.text())
    const data = await response.json()
    document.getElementById("a").textContent = data.arms.a
    document.getElementById("b").textContent = data.arms.b
    document.getElementById("outcomes").replaceChildren(...blocks(data.outcomes, data, ""))
    document.getElementById("reader").replaceChildren(...blocks(data.reader, data, " (automatic judge)"))
    document.getElementById("raters").replaceChildren(table(["rater", "pairs", "known answers right", "repeats alike", "counts"],
      Object.entries(data.raters).map(([name, r]) => [name, r.votes, percent(r.known_right), percent(r.repeats_alike), r.counts ? "yes" : "no"])))
    document.getElementById("error").textContent = ""
  } catch (error) {
    document.getElementById("error").textContent = "The results cannot be read: " + error.message
  }
}

refresh()
setInterval(refresh, 3000)
