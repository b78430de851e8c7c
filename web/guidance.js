// Workflows saved before the input `guidance` existed keep the numbers that they were saved with.
import { app } from "../../scripts/app.js";

const WIDGETS_BEFORE = { EmuVideoSampler: 7, EmuVideoGuider: 3 };

app.registerExtension({
  name: "EmuVideo.Guidance",
  beforeConfigureGraph(graph) {
    const graphs = [graph, ...(graph.definitions?.subgraphs ?? [])];
    for (const node of graphs.flatMap((each) => each.nodes ?? [])) {
      if (node.widgets_values?.length === WIDGETS_BEFORE[node.type]) {
        node.widgets_values.push("as set");
      }
    }
  },
});
