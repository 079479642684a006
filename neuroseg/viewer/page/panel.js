// The panel beside neuroglancer: the threshold, numbers of the segmentation, and a button that writes it.
// It runs before the client, because the client reads its state from the address when it begins.
"use strict";

(() => {
  const given = JSON.parse(document.getElementById("neuroseg").textContent);
  const base = location.origin + location.pathname.replace(/\/[^/]*$/, "");
  const data = `${base}/data`;
  const SEGMENTATION = "segmentation";
  const COLOURS = { voi_split: "#6fa4dd", voi_merge: "#ff9580", segments: "#9be39b", largest_share: "#ffd166" };
  const NAMES = {
    segments: "Segments", largest_share: "Largest segment",
    voi_split: "VOI split (bits)", voi_merge: "VOI merge (bits)",
  };

  // A pasted link may name the server by another port, or the token of an earlier start.
  function beginWithState() {
    let state = JSON.stringify(given.state).replaceAll(given.server, data);
    if (location.hash.length > 2) {
      try {
        const own = /precomputed:\/\/https?:\/\/(127\.0\.0\.1|localhost)(:\d+)?\/v\/[^/"]+\/data/g;
        state = withoutPlaces(decodeURIComponent(location.hash.slice(2)).replace(own, `precomputed://${data}`));
      } catch {
        console.warn("The pasted address is damaged. The view begins anew.");
      }
    }
    history.replaceState(null, "", "#!" + encodeURIComponent(state));
    const version = state.match(/\/segmentation\/t([0-9.e+-]+?)-m(\d+)/);
    return version ? { threshold: Number(version[1]), size: Number(version[2]) } : null;
  }

  // During a run, blocks that are new are read from new addresses. New layers need the page to begin again.
  async function followRun() {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 3000));
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
        const begun = await (await fetch(`${base}/beginning`)).json();
        const now = window.viewer.state.toJSON();
        const state = { ...begun.state };
        for (const key of ["position", "crossSectionScale", "projectionScale", "projectionOrientation", "layout"]) {
          if (now[key] !== undefined) state[key] = now[key];
        }
        const text = JSON.stringify(state).replaceAll(given.server, data);
        history.replaceState(null, "", "#!" + encodeURIComponent(text));
        location.reload();
        return;
      }
      if (!progress.running) return;
      for (const managed of window.viewer.layerManager.managedLayers) {
        if (["raw", "truth"].includes(managed.name)) continue;
        const url = managed.layer?.dataSources[0]?.spec.url ?? "";
        const newer = url.replace(/\/g\d+$/, `/g${progress.generation}`);
        if (newer !== url) await inTurn(() => replaceSource(managed.layer, newer));
      }
  }
  if (given.is_workspace) document.addEventListener("DOMContentLoaded", followRun);

  // The layer of places is added anew: see annotation_layer in initial_state.py.
  function withoutPlaces(text) {
    const state = JSON.parse(text);
    return JSON.stringify({ ...state, layers: state.layers.filter((layer) => layer.name !== given.places.name) });
  }

  const shown = beginWithState() ?? { threshold: given.threshold, size: given.min_size };
  if (given.is_workspace) document.addEventListener("DOMContentLoaded", build);

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function build() {
    const threshold = element("input", {
      id: "neuroseg-threshold", type: "range", min: 0, max: 1, step: 0.005, value: shown.threshold ?? 0,
    });
    const exact = element("input", {
      type: "number", min: 0, max: 1, step: "any", value: shown.threshold ?? "", "aria-label": "Threshold as a number",
    });
    const size = element("input", { id: "neuroseg-size", type: "number", min: 0, step: 1, value: shown.size });
    const numbers = element("dl", { "aria-live": "polite" });
    const curve = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const legend = element("div", { class: "legend" });
    const use = element("button", { type: "button" }, "Use this threshold");
    const places = element("div", { class: "places" });
    const status = element("p", { class: "status", role: "status" });
    const collapse = element("button", { type: "button", "aria-expanded": "true", "aria-label": "Hide the panel" }, "–");
    const panel = element("section", { id: "neuroseg-panel", "aria-label": "Threshold of the segmentation" },
      element("header", {}, element("h1", {}, "Segmentation"), collapse),
      element("div", { class: "row" }, element("label", { for: threshold.id }, "Threshold"), threshold, exact),
      element("div", { class: "row" }, element("label", { for: size.id }, "Min. voxels"), size, use),
      numbers, curve, legend, status, places);
    document.body.append(panel);
    // Keys pressed in the panel are not commands of neuroglancer.
    for (const name of ["keydown", "keyup", "keypress", "wheel", "pointerdown"]) {
      panel.addEventListener(name, (event) => event.stopPropagation());
    }
    collapse.addEventListener("click", () => {
      const hidden = panel.classList.toggle("collapsed");
      collapse.textContent = hidden ? "+" : "–";
      collapse.setAttribute("aria-expanded", String(!hidden));
      collapse.setAttribute("aria-label", hidden ? "Show the panel" : "Hide the panel");
    });
    const view = { threshold, exact, size, numbers, curve, legend, use, status, places, rows: [] };
    threshold.addEventListener("input", () => { exact.value = threshold.value; update(view); });
    exact.addEventListener("change", () => {
      exact.value = wanted(view).threshold; // the last valid one
      threshold.value = exact.value;
      update(view);
    });
    size.addEventListener("change", () => update(view));
    use.addEventListener("click", () => write(view));
    if (given.threshold === null) {
      for (const part of [threshold.parentNode, size.parentNode, curve]) part.hidden = true;
      status.textContent = "No threshold to choose: there is no merge tree.";
      begin(view, () => listPlaces(view));
    } else {
      begin(view, () => update(view), () => drawCurve(view), () => listPlaces(view));
    }
  }

  async function begin(view, ...steps) {
    while (!window.viewer?.layerManager.managedLayers.length) await new Promise((resolve) => setTimeout(resolve, 20));
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        view.status.textContent = error.message;
      }
    }
  }

  function wanted(view) {
    // The slider has steps, the number is exact.
    const threshold = view.exact.value === "" ? Number.NaN : Number(view.exact.value);
    return { threshold: threshold >= 0 && threshold <= 1 ? threshold : shown.threshold, size: Math.max(0, Math.floor(Number(view.size.value) || 0)) };
  }

  // Changes of the layers wait for each other: one may replace the layers that another one changes.
  let last = Promise.resolve();
  function inTurn(change) {
    const done = last.then(change);
    last = done.catch(() => {});
    return done;
  }

  // One change of the threshold at a time: values that the user drags over meanwhile are skipped.
  let busy = false, again = false;
  async function update(view) {
    if (busy) { again = true; return; }
    busy = true;
    try {
      do { again = false; await inTurn(() => show(view)); } while (again);
    } catch (error) {
      view.status.textContent = error.message;
    } finally {
      busy = false;
    }
  }

  async function show(view) {
    const { threshold, size } = wanted(view);
    const layer = window.viewer?.layerManager.getLayerByName(SEGMENTATION)?.layer;
    const selection = layer?.displayState.segmentationGroupState.value.visibleSegments;
    const selected = selection ? [...selection].slice(0, 100) : [];
    const query = new URLSearchParams({ threshold, min_size: size, selected: selected.join(",") });
    const response = await fetch(`${base}/cut?${query}`);
    if (!response.ok) throw new Error(`The server answers: ${response.statusText}`);
    const cut = await response.json();
    shown.threshold = threshold;
    showNumbers(view, cut);
    mark(view, threshold);
    if (!layer) return;
    // Segments that the user selects while the new labels are read stay selected.
    if (selected.length && selected.length < 100) select(selection, cut.selected);
    await replaceSource(layer, `precomputed://${data}/${SEGMENTATION}/${cut.version}`);
  }

  function select(selection, names) {
    selection.clear();
    for (const name of names) selection.add(BigInt(name));
  }

  function showNumbers(view, cut) {
    view.numbers.replaceChildren();
    for (const [key, name] of Object.entries(NAMES)) {
      if (cut[key] === undefined) continue;
      const text = key === "segments" ? cut[key].toLocaleString("en")
        : key === "largest_share" ? `${(100 * cut[key]).toFixed(1)} %` : cut[key].toFixed(3);
      view.numbers.append(element("dt", {}, name), element("dd", { "data-key": key }, text));
    }
  }

  // A second source under the new address: the old one is drawn until the new one is complete.
  async function replaceSource(layer, url) {
    const old = [...layer.dataSources];
    if (old.at(-1).spec.url === url) return;
    const added = layer.addDataSource({ ...old[0].spec, url, subsources: new Map() });
    const begin = performance.now();
    while (!(added.loadState !== undefined && window.viewer.isReady()) && performance.now() < begin + 5000) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    for (const source of old) source.spec = { ...source.spec, url: "" };
    window.neurosegLatency = performance.now() - begin;
  }

  async function drawCurve(view) {
    view.rows = (await (await fetch(`${base}/curve`)).json()).curve;
    const scored = view.rows.some((row) => row.voi_split !== undefined);
    const keys = scored ? ["voi_split", "voi_merge"] : ["segments", "largest_share"];
    view.curve.setAttribute("viewBox", "0 0 100 40");
    view.curve.setAttribute("preserveAspectRatio", "none");
    view.curve.setAttribute("role", "img");
    view.curve.setAttribute("aria-label", `${keys.map((key) => NAMES[key]).join(" and ")} by threshold, from 0 to 1`);
    const top = (key) => Math.max(...(scored ? keys : [key]).flatMap((k) => view.rows.map((row) => row[k])), 1e-9);
    for (const key of keys) {
      const points = view.rows.map((row) => `${100 * row.threshold},${39 - 37 * row[key] / top(key)}`).join(" ");
      view.curve.append(svg("polyline", { points, fill: "none", stroke: COLOURS[key], "stroke-width": 2 }));
      const sample = element("span", { style: `color: ${COLOURS[key]}`, "aria-hidden": "true" }, "━ ");
      view.legend.append(element("span", {}, sample, NAMES[key]));
    }
    mark(view, wanted(view).threshold);
  }

  function mark(view, threshold) {
    view.curve.querySelector("line")?.remove();
    view.curve.append(svg("line", {
      x1: 100 * threshold, x2: 100 * threshold, y1: 0, y2: 40, stroke: "#ffffff", "stroke-width": 1.5,
    }));
  }

  // The worst places, as a list and as a layer of annotations.
  async function listPlaces(view) {
    const { places } = await (await fetch(`${base}/places`)).json();
    if (!places.length) return;
    const list = element("ol", {});
    for (const place of places) {
      const button = element("button", { type: "button", title: place.text },
        element("span", { class: "kind", style: `color: ${place.colour}` }, place.kind), `${place.bits.toFixed(3)} bits`);
      button.addEventListener("click", () => goTo(view, place, button));
      list.append(element("li", {}, button));
    }
    const title = given.places.name[0].toUpperCase() + given.places.name.slice(1);
    view.places.append(element("h2", {}, `${title}, the worst first`), list);
    await inTurn(() => annotate(places));
  }

  async function goTo(view, place, button) {
    view.places.querySelector('[aria-current="true"]')?.removeAttribute("aria-current");
    button.setAttribute("aria-current", "true");
    window.viewer.position.value = Float32Array.from(place.position);
    view.status.textContent = place.text;
    if (!place.fragments.length) return;
    const { threshold, size } = wanted(view);
    const query = new URLSearchParams({ threshold, min_size: size, selected: place.fragments.join(",") });
    const cut = await (await fetch(`${base}/cut?${query}`)).json();
    const layer = window.viewer.layerManager.getLayerByName(SEGMENTATION).layer;
    select(layer.displayState.segmentationGroupState.value.visibleSegments, cut.selected);
  }

  // Restoring the list makes all layers anew, with their state.
  function annotate(places) {
    const annotations = places.map((place, number) => ({
      id: String(number), description: place.text, props: [place.colour],
      ...(place.other ? { type: "line", pointA: place.position, pointB: place.other }
        : { type: "point", point: place.position }),
    }));
    const asText = (key, value) => (typeof value === "bigint" ? value.toString() : value);
    const layers = JSON.parse(JSON.stringify(window.viewer.layerSpecification.toJSON(), asText));
    window.viewer.layerSpecification.restoreState([...layers, { ...given.places, annotations }]);
  }

  function svg(tag, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.setAttribute("vector-effect", "non-scaling-stroke");
    return made;
  }

  async function write(view) {
    const { threshold, size } = wanted(view);
    view.use.disabled = true;
    try {
      let state = await (await fetch(`${base}/use`, {
        method: "POST", body: JSON.stringify({ threshold, min_size: size }),
      })).json();
      while (state.running) {
        view.status.textContent = `Running: ${state.command}`;
        await new Promise((resolve) => setTimeout(resolve, 300));
        state = await (await fetch(`${base}/use`)).json();
      }
      view.status.textContent = state.error || `Done: ${state.command}`;
    } catch (error) {
      view.status.textContent = `The server does not answer: ${error.message}`;
    } finally {
      view.use.disabled = false;
    }
  }
})();
