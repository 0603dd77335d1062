/* A picture in a window of its own. Its code comes when it is first wanted. */

/** A picture in full size. @param {string} url @param {string} title */
export async function openPicture(url, title) {
  if (!url) return;
  const [{ h }, { open }] = await Promise.all([import("./dom.js"), import("./dialog.js")]);
  open(title, "picture", h("img", { src: url, alt: title }));
}
