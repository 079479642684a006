// The worst places, as a list and as a layer of annotations.
import { element, segmentationLayer, select, selectionOf } from "./layers.js";
import { base, given } from "./start.js";
import { cutOf } from "./threshold.js";

// Return the places, which are the marks of their layer.
export async function listPlaces(view) {
  const { places } = await (await fetch(`${base}/places`)).json();
  if (!places.length) return places;
  const list = element("ol", {});
  for (const place of places) {
    const button = element("button", { type: "button", title: place.text },
      element("span", { class: "kind", style: `color: ${place.colour}` }, place.kind), `${place.bits.toFixed(3)} bits`);
    button.addEventListener("click", () => goTo(view, place, button));
    list.append(element("li", {}, button));
  }
  const title = given.places.name[0].toUpperCase() + given.places.name.slice(1);
  view.places.append(element("h2", {}, `${title}, the worst first`), list);
  return places;
}

async function goTo(view, place, button) {
  view.places.querySelector('[aria-current="true"]')?.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  window.viewer.position.value = Float32Array.from(place.position);
  view.status.textContent = place.text;
  if (!place.fragments.length) return;
  const cut = await cutOf(view, place.fragments);
  select(selectionOf(segmentationLayer()), cut.selected);
}
