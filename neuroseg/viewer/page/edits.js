// Edits by hand: two points in the views are joined or split. The list shows all edits and undoes them.
import { element, showMarks } from "./layers.js";
import { base, given } from "./start.js";
import { showCurve, update } from "./threshold.js";

const COLOURS = { join: "#9be39b", split: "#ffb347" };
const ASKED = {
  join: ["Click a point in the first segment.", "Click a point in the segment to join it with."],
  split: ["Click a point in the segment.", "Click a point that belongs to another neuron."],
};
// A press that moves farther pans the view.
const CLICK_PIXELS = 4;

export function editsPart(view) {
  const join = element("button", { type: "button", "aria-pressed": "false" }, "Join");
  const split = element("button", { type: "button", "aria-pressed": "false" }, "Split");
  const centre = element("button", { type: "button", title: "For work without a mouse" }, "Take the centre");
  const cancel = element("button", { type: "button" }, "Cancel");
  const list = element("ol", { "aria-label": "Edits" });
  view.edits = { buttons: { join, split }, centre, cancel, list, kind: null, points: [], marks: [] };
  join.addEventListener("click", () => begin(view, "join"));
  split.addEventListener("click", () => begin(view, "split"));
  centre.addEventListener("click", () => take(view, [...window.viewer.position.value]));
  cancel.addEventListener("click", () => end(view, "Cancelled."));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && view.edits.kind) end(view, "Cancelled.");
  }, true);
  listenToClicks(view);
  showButtons(view);
  return element("div", { class: "edits" },
    element("div", { class: "row" }, element("h2", {}, "Edit"), join, split, centre, cancel), list);
}

// List the edits. Return the marks of their layer.
export async function listEdits(view) {
  const response = await fetch(`${base}/edits`);
  return response.ok ? list(view, await response.json()) : [];
}

function begin(view, kind) {
  view.edits.kind = kind;
  view.edits.points = [];
  view.status.textContent = ASKED[kind][0];
  showButtons(view);
}

function end(view, text) {
  view.edits.kind = null;
  view.edits.points = [];
  view.status.textContent = text;
  showMarks(given.edits.name, view.edits.marks);
  showButtons(view);
}

function showButtons(view) {
  const { buttons, centre, cancel, kind } = view.edits;
  for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", String(name === kind));
  centre.hidden = cancel.hidden = kind === null;
  document.body.classList.toggle("neuroseg-picking", kind !== null);
}

// A click is a press that does not move. The client still pans with the mouse and scrolls through sections.
function listenToClicks(view) {
  let pressed = null;
  const container = () => document.getElementById("neuroglancer-container");
  document.addEventListener("pointerdown", (event) => {
    pressed = view.edits.kind && event.button === 0 && container()?.contains(event.target)
      ? [event.clientX, event.clientY] : null;
  }, true);
  document.addEventListener("pointerup", (event) => {
    if (!pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > CLICK_PIXELS) return;
    pressed = null;
    const mouse = window.viewer.mouseState;
    if (mouse.updateUnconditionally()) take(view, [...mouse.position].slice(0, 3));
  }, true);
}

async function take(view, point) {
  const { kind, points } = view.edits;
  points.push(point);
  if (points.length < 2) {
    view.status.textContent = ASKED[kind][1];
    const first = { text: "first point", colour: COLOURS[kind], position: point, other: null };
    showMarks(given.edits.name, [...view.edits.marks, first]);
    return;
  }
  end(view, "");
  await change(view, { kind, points });
}

async function change(view, wanted) {
  try {
    const response = await fetch(`${base}/edits`, { method: "POST", body: JSON.stringify(wanted) });
    if (!response.ok) throw new Error(`The server answers: ${response.statusText}`);
    const found = await response.json();
    showMarks(given.edits.name, list(view, found));
    await update(view);
    if (found.error) view.status.textContent = found.error;
    await showCurve(view);
  } catch (error) {
    view.status.textContent = error.message;
  }
}

function list(view, found) {
  view.edits.list.replaceChildren(...found.edits.map((edit) => row(view, edit)));
  if (!found.written) {
    const text = "Not in the segmentation yet: press “Use this threshold”.";
    view.edits.list.append(element("li", { class: "note" }, text));
  }
  view.edits.marks = found.edits.map((edit) => ({
    text: described(edit), colour: COLOURS[edit.kind], position: edit.positions[0], other: edit.positions[1],
  }));
  return view.edits.marks;
}

function row(view, edit) {
  const name = element("button", { type: "button", title: described(edit) },
    element("span", { class: "kind", style: `color: ${COLOURS[edit.kind]}` }, `${edit.number} ${edit.kind}`), edit.by);
  name.addEventListener("click", () => { window.viewer.position.value = Float32Array.from(edit.positions[0]); });
  const undo = element("button", { type: "button", class: "undo", "aria-label": `Undo edit ${edit.number}` }, "Undo");
  undo.addEventListener("click", () => change(view, { undo: edit.number }));
  return element("li", {}, name, undo);
}

function described(edit) {
  return `${edit.kind} ${edit.number}, by ${edit.by}, ${edit.at}`;
}
