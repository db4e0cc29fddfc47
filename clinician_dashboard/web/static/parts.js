// Brings the page up to date from HTML that the same templates rendered. Elements marked data-part are matched by name;
// in a data-list, rows are matched by data-key and touched only when their data-rev changed, so that focus, scrolling
// and loaded images stay.

// Parsed as a document of its own: nothing in it runs, and the page's policy forbids inline script in any case.
const parse = (html) => new DOMParser().parseFromString(`<!doctype html><body>${html}`, "text/html");

// What appears in a list has arrived, and is announced; without `announce` the reader has turned to it.
export function update(html, { announce = null } = {}) {
  const fresh = parse(html);
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const old = document.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
    if (!old || old === part) continue;
    if (old.hasAttribute("data-keep") && isBusy(old)) continue;
    if (part.hasAttribute("data-list")) updateList(old, part, announce);
    else if (old.outerHTML !== part.outerHTML) replaceKeepingFocus(old, document.adoptNode(part));
  }
  document.dispatchEvent(new CustomEvent("parts-updated"));
}

// Somebody writes there: what they wrote stays, and the server says when it is out of date.
function isBusy(part) {
  return part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")
    || part.querySelector("form[data-dirty], form[data-busy]") !== null;
}

function replaceKeepingFocus(old, fresh) {
  const active = old.contains(document.activeElement) ? document.activeElement : null;
  old.replaceWith(fresh);
  if (!active) return;
  const links = [...fresh.querySelectorAll("a")];
  // The same link, or else the one that now does the same, such as "next" of the next page.
  const again = links.find((one) => one.getAttribute("href") === active.getAttribute("href"))
    ?? links.find((one) => active.rel && one.rel === active.rel) ?? links.find((one) => active.rel && one.rel);
  // Or the button that does the same, or what took its place.
  const key = active.dataset?.key;
  const button = key ? fresh.querySelector(`[data-key="${key}"]`) : null;
  (again ?? button ?? (active.matches("button") ? fresh.querySelector("button") : null))?.focus({ preventScroll: true });
}

function updateList(list, fresh, announce) {
  const known = new Map([...list.children].map((row) => [row.dataset.key, row]));
  const wasEmpty = known.size === 0;
  let place = list.firstElementChild;
  for (const row of [...fresh.children]) {
    const { key, rev } = row.dataset;
    const old = known.get(key);
    known.delete(key);
    let now = old;
    if (!old || old.dataset.rev !== rev) {
      now = document.adoptNode(row);
      if (old) {
        const focused = old.contains(document.activeElement);
        const selected = old.getAttribute("aria-selected");
        if (selected) now.setAttribute("aria-selected", selected);
        if (place === old) place = now;
        reuseImages(old, now);
        old.replaceWith(now);
        if (focused) now.querySelector("a, button")?.focus({ preventScroll: true });
      } else {
        now.classList.toggle("fresh", announce !== null);
        if (announce && row.dataset.sayNew && !wasEmpty) announce(row.dataset.sayNew);
      }
    }
    if (now === place) place = place.nextElementSibling;
    else list.insertBefore(now, place);
  }
  for (const gone of known.values()) gone.remove();
}

// An image that is already there is moved over, so that it does not flicker.
function reuseImages(old, now) {
  for (const image of now.querySelectorAll("img")) {
    const same = [...old.querySelectorAll("img")].find((one) => one.getAttribute("src") === image.getAttribute("src"));
    if (same) image.replaceWith(same);
  }
}
