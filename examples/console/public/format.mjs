/* format.mjs: numbers with their units, times, and the words for states. */

export const none = "–";

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

// Three digits that matter, and no more
function short(value) {
  const size = Math.abs(value);
  if (size >= 100 || value === 0) return whole.format(value);
  return value.toFixed(size >= 10 ? 1 : 2);
}

export function count(value) {
  return value === null || value === undefined ? none : whole.format(value);
}

export function perSecond(value, unit = "") {
  return value === null || value === undefined ? none : `${value < 1 && value > 0 ? value.toFixed(2) : short(value)} ${unit}/s`.replace(" /", "/");
}

export function bytes(value) {
  if (value === null || value === undefined) return none;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let n = value;
  let i = 0;
  while (Math.abs(n) >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return `${i === 0 ? whole.format(n) : short(n)} ${units[i]}`;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return none;
  if (ms < 1000) return `${short(ms)} ms`;
  if (ms < 60_000) return `${short(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} min`;
  return `${whole.format(Math.floor(ms / 86_400_000))} d ${Math.floor((ms % 86_400_000) / 3_600_000)} h`;
}

export function ago(time, now) {
  if (!time) return none;
  const ms = now - Date.parse(time);
  return ms < 1500 ? "now" : `${duration(Math.floor(ms / 1000) * 1000)} ago`;
}

export function clock(time) {
  return time ? new Date(time).toLocaleTimeString("en-GB") : none;
}

// ok: all is well; busy: it will be; bad: somebody has to look
export function kindOf(status) {
  if (["delivering", "standby"].includes(status.state)) return status.trouble ? "bad" : "ok";
  return !status.trouble && ["catching up", "resyncing", "starting"].includes(status.state) ? "busy" : "bad";
}

export function capital(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : none;
}
