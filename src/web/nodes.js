// The choice of a node, in the view of a fleet. Where there is one only, there is nothing to choose.

import {byId, clean, element} from "./text.js";
import {look, view, watch} from "./view.js";

let known = [];

/** Takes the names of the nodes that there are. */
export function showNodes(names) {
  if (names.join("\n") === known.join("\n")) return;
  known = names;
  show();
}

function show() {
  // A node that stands in the address is shown also where it is not known: it is what is asked for, and can be left again.
  const names = view.node && !known.includes(view.node) ? [...known, view.node] : known;
  const options = names.map(name => element("option", {value: name, textContent: clean(name)}));
  byId("node").replaceChildren(element("option", {value: "", textContent: "All nodes"}), ...options);
  byId("node").value = view.node;
  byId("node-choice").dataset.chosen = view.node !== "";
  byId("node-choice").hidden = known.length < 2 && !view.node;
}

export function startNodes() {
  byId("node").addEventListener("change", ({target}) => look({node: target.value}));
  watch(changed => changed.has("node") && show());
  show();
}
