/* Which of the two pages is shown: the storyboard or the films. */

import { attribute } from "./dom.js";

function shown() {
  const name = location.hash === "#films" ? "films" : "board";
  if (name === "films") void import("./gallery.js"); // its code comes when it is first wanted
  for (const section of document.querySelectorAll("main > section")) /** @type {HTMLElement} */ (section).hidden = section.id !== `view-${name}`;
  for (const link of document.querySelectorAll("nav.views a")) attribute(link, "aria-current", link.getAttribute("href") === `#${name}` ? "page" : null);
}

/** The place of the keyboard is what the address names, if that is shown only now. */
function change() {
  const before = document.querySelector("main > section:not([hidden])");
  shown();
  const after = /** @type {HTMLElement} */ (document.querySelector("main > section:not([hidden])"));
  if (before === after) return;
  scrollTo(0, 0);
  after.tabIndex = -1;
  (location.hash === "#scene" ? document.getElementById("scene") : after)?.focus();
}

/** Follow the address from now on. */
export function followViews() {
  addEventListener("hashchange", change);
  shown();
}
