// Nodes saved before the input `guidance` existed keep the numbers that they were saved with.
import { app } from "../../scripts/app.js";

const WIDGETS_BEFORE = { EmuVideoSampler: 7, EmuVideoGuider: 3 };

app.registerExtension({
  name: "EmuVideo.Guidance",
  beforeRegisterNodeDef(nodeType, { name }) {
    if (!(name in WIDGETS_BEFORE)) return;
    const { configure } = nodeType.prototype;
    // Every way into a graph configures the node: workflows, subgraphs, blueprints, templates and the clipboard.
    nodeType.prototype.configure = function (saved) {
      const values = saved.widgets_values;
      const isOld = values?.length === WIDGETS_BEFORE[name];
      return configure.call(this, isOld ? { ...saved, widgets_values: [...values, "as set"] } : saved);
    };
  },
});
