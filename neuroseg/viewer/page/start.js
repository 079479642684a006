// The state with which the page begins, and how it follows a run. panel.js loads it before neuroglancer's client
// begins, because the client then reads its state from the address.
import { inTurn, replaceSource } from "./layers.js";

export const given = JSON.parse(document.getElementById("neuroseg").textContent);
export const base = location.origin + location.pathname.replace(/\/[^/]*$/, "");
export const data = `${base}/data`;
const FOLLOWED_EVERY_MS = 3000;

// A pasted link may name the server by another port, or the token of an earlier start.
export function beginWithState() {
  let state = JSON.stringify(given.state).replaceAll(given.server, data);
  if (location.hash.length > 2) {
    try {
      const own = /precomputed:\/\/https?:\/\/(127\.0\.0\.1|localhost)(:\d+)?\/v\/[^/"]+\/data/g;
      state = withoutMarks(decodeURIComponent(location.hash.slice(2)).replace(own, `precomputed://${data}`));
    } catch {
      console.warn("The pasted address is damaged. The view begins anew.");
    }
  }
  history.replaceState(null, "", "#!" + encodeURIComponent(state));
  const version = state.match(/\/segmentation\/t([0-9.e+-]+?)-m(\d+)/);
  return version ? { threshold: Number(version[1]), size: Number(version[2]) } : null;
}

// The layers of annotations are added anew: see annotation_layer in initial_state.py.
function withoutMarks(text) {
  const state = JSON.parse(text), marks = [given.places.name, given.edits.name];
  return JSON.stringify({ ...state, layers: state.layers.filter((layer) => !marks.includes(layer.name)) });
}

// During a run, blocks that are new are read from new addresses. New layers need the page to begin again.
export async function followRun() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, FOLLOWED_EVERY_MS));
    try {
      await followOnce();
    } catch {
      // the connection is away for a moment
    }
  }
}

async function followOnce() {
  const progress = await (await fetch(`${base}/progress?${new URLSearchParams({ stamp: given.stamp })}`)).json();
  if (progress.more) {
    await beginAgain();
    return;
  }
  document.dispatchEvent(new CustomEvent("neuroseg-edits", { detail: progress.edits }));
  if (!progress.running) return;
  for (const managed of window.viewer.layerManager.managedLayers) {
    if (["raw", "truth"].includes(managed.name)) continue;
    const url = managed.layer?.dataSources[0]?.spec.url ?? "";
    const newer = url.replace(/\/g\d+$/, `/g${progress.generation}`);
    if (newer !== url) await inTurn(() => replaceSource(managed.layer, newer));
  }
}

// Show what there is now, at the place and in the layout of before.
async function beginAgain() {
  const begun = await (await fetch(`${base}/beginning`)).json();
  const now = window.viewer.state.toJSON();
  const state = { ...begun.state };
  for (const key of ["position", "crossSectionScale", "projectionScale", "projectionOrientation", "layout"]) {
    if (now[key] !== undefined) state[key] = now[key];
  }
  const text = JSON.stringify(state).replaceAll(given.server, data);
  history.replaceState(null, "", "#!" + encodeURIComponent(text));
  location.reload();
}
