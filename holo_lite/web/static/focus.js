/* The keyboard's place is never lost: where what has the focus goes away, it goes to what is next to it.

   A button that is hidden or turned off once it was pressed leaves its place to the group it is in, and not to its
   neighbour: whoever presses it twice would press something else. */

const REACHED = "button, a[href], input, textarea, select, summary, [tabindex]:not([tabindex='-1'])";
const GROUPS = "[role=group], article, fieldset, section, dialog, main";

/** What an element is in, from inside out, and what stands after and before it there.
 * @typedef {{inside: Element, after: Element[], before: Element[]}} Level */

/** @type {HTMLElement | null} */
let last = null;
/** @type {Level[]} */
let levels = [];

/** @param {HTMLElement} element */
function remember(element) {
  [last, levels] = [element, []];
  for (let each = /** @type {Element} */ (element); each.parentElement; each = each.parentElement) {
    const all = [...each.parentElement.children];
    const at = all.indexOf(each);
    levels.push({ inside: each.parentElement, after: all.slice(at + 1), before: all.slice(0, at).reverse() });
  }
}

/** Whether an element is there and can have the focus. @param {Element} element */
function usable(element) {
  return element.isConnected && !element.matches(":disabled") && element.closest("[hidden]") === null && element.getClientRects().length > 0;
}

/** The first thing in an element that can have the focus, or itself. @param {Element} element @returns {HTMLElement | null} */
function within(element) {
  const all = [element, ...element.querySelectorAll(REACHED)];
  return /** @type {HTMLElement | null} */ (all.find((each) => each.matches(REACHED) && usable(each)) ?? null);
}

/** Where the focus goes from an element that is gone from the page. @returns {HTMLElement | null} */
function besideTheGone() {
  for (const { inside, after, before } of levels) {
    const next = [...after, ...before].filter((each) => each.parentElement === inside && !each.matches(".toasts")).map(within).find((each) => each !== null);
    if (next) return next;
    if (inside.isConnected && inside.matches(GROUPS)) return group(inside);
  }
  return null;
}

/** The nearest group that can be seen. @param {Element | null} element @returns {HTMLElement | null} */
function group(element) {
  const found = /** @type {HTMLElement | null} */ (element?.closest(GROUPS) ?? null);
  if (found === null || usable(found)) return found;
  return group(found.parentElement);
}

function keep() {
  if (last === null || usable(last) || (document.activeElement !== document.body && document.activeElement !== last)) return;
  const next = last.isConnected ? group(last.parentElement) : besideTheGone();
  if (next === null) return;
  if (!next.matches(REACHED)) next.tabIndex = -1;
  next.focus({ preventScroll: true });
}

/** Look after the focus from now on. */
export function keepFocus() {
  if (document.activeElement instanceof HTMLElement && document.activeElement !== document.body) remember(document.activeElement);
  addEventListener("focusin", ({ target }) => { if (target instanceof HTMLElement) remember(target); });
  addEventListener("focusout", ({ target, relatedTarget }) => {
    if (relatedTarget === null) queueMicrotask(() => { if (target === last && last !== null && usable(last)) last = null; }); // somebody left
  });
  new MutationObserver(keep).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["hidden", "disabled"] });
}
