/* Latent frames and what they are in the video: four video frames each, the first one alone. */

/** The first video frame of a shot that begins with a latent frame. @param {number} latent */
export function firstFrame(latent) {
  return latent === 0 ? 0 : 4 * latent - 3;
}

/** The latent frame that begins nearest to a place among the video's frames. @param {number} frame */
export function latentOf(frame) {
  return Math.max(0, Math.round((frame + 3) / 4));
}

/** How many video frames some latent frames from the clip's start are. @param {number} latents */
export function frameCount(latents) {
  return 4 * (latents - 1) + 1;
}

/** Where each shot begins, and after the last where the clip ends, in latent frames. @param {readonly number[]} lengths */
export function starts(lengths) {
  const places = [0];
  for (const length of lengths) places.push((places.at(-1) ?? 0) + length);
  return places;
}

/** Lengths with boundary `index` at `latent`: a cut moves between its neighbours, the last one makes the clip longer.
 * @param {readonly number[]} lengths @param {number} index @param {number} latent */
export function moved(lengths, index, latent) {
  const places = starts(lengths);
  const [low, high] = bounds(lengths, index);
  places[index + 1] = Math.min(Math.max(latent, low), high);
  return lengths.map((_, shot) => (places[shot + 1] ?? 0) - (places[shot] ?? 0));
}

/** The least and the greatest latent frame a boundary may be moved to.
 * @param {readonly number[]} lengths @param {number} index @returns {[number, number]} */
export function bounds(lengths, index) {
  const places = starts(lengths);
  const next = places[index + 2];
  return [(places[index] ?? 0) + 1, next === undefined ? Number.MAX_SAFE_INTEGER : next - 1];
}

/** The seconds between marks of a ruler, so that they are some pixels apart.
 * @param {number} seconds @param {number} pixels @param {number} apart */
export function ruler(seconds, pixels, apart) {
  const wanted = (seconds * apart) / Math.max(pixels, 1);
  return [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300].find((step) => step >= wanted) ?? 600;
}
