/**
 * Numbers as people read them: durations, counts, sizes, dollars.
 */

const DASH = "\u2013";

/** As in `85 ms`, `3.4 s`, `2 min 05 s`, `1 h 04 min`. */
export function duration(seconds: number | null): string {
  if (seconds === null) {
    return DASH;
  }
  if (seconds < 0.9995) {
    return `${Math.round(seconds * 1000)} ms`;
  }
  if (seconds < 59.95) {
    return `${seconds.toFixed(seconds < 9.95 ? 2 : 1)} s`;
  }
  const whole = Math.round(seconds);
  const two = (part: number): string => String(part).padStart(2, "0");
  return whole < 3600
    ? `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
    : `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** As in `1,234`. */
export function integer(value: number | null): string {
  return value === null ? DASH : Math.round(value).toLocaleString("en-US");
}

/** As in `950`, `12.3k`, `4.5M`. */
export function short(value: number | null): string {
  if (value === null) {
    return DASH;
  }
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (value >= size * 0.9995) {
      const scaled = value / size;
      return `${scaled.toFixed(scaled < 9.95 ? 2 : scaled < 99.5 ? 1 : 0)}${unit}`;
    }
  }
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}

/** As in `$0.0123` or `$4.50`; a dash if it is unknown. */
export function dollars(value: number | null): string {
  if (value === null) {
    return DASH;
  }
  if (value === 0) {
    return "$0";
  }
  return value < 0.0001 ? "<$0.0001" : `$${value.toFixed(value < 0.1 ? 4 : 2)}`;
}

/** Returns the largest of many numbers, and at least `least`; as arguments of `Math.max`, too many would be an error. */
export function largest(values: readonly number[], least: number): number {
  return values.reduce((one, other) => Math.max(one, other), least);
}

/** As in `≥ 1.2k` if a part of a sum is unknown. */
export function total(
  sum: { readonly known: number | null; readonly exact: boolean },
  text: (value: number | null) => string,
): string {
  return sum.exact || sum.known === null ? text(sum.known) : `\u2265 ${text(sum.known)}`;
}

/** As in `12 %`; never 0 or 100 if it is only nearly so. */
export function percent(fraction: number): string {
  const value = fraction * 100;
  if (value > 0 && value < 1) {
    return "<1 %";
  }
  return `${value > 99 && value < 100 ? 99 : Math.round(value)} %`;
}

/** As in `1 call`, `3 calls`, `2 replies`. */
export function count(value: number, noun: string, plural = `${noun}s`): string {
  return `${integer(value)} ${value === 1 ? noun : plural}`;
}

/** As in `1.2 MB`. */
export function bytes(value: number): string {
  return value < 1000
    ? count(value, "byte")
    : `${short(value).replace(/k$/, " K").replace(/([MG])$/, " $1")}B`;
}

/** The time of day at which something happened, as in `2026-11-28 17:20:05`. */
export function moment(epochSeconds: number): string {
  const at = new Date(epochSeconds * 1000);
  const two = (part: number): string => String(part).padStart(2, "0");
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  return `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")}`;
}

/** As in `1\u20134, 7`; the first of them if there are many. */
export function ranges(numbers: readonly number[], most = 12): string {
  const parts: string[] = [];
  const sorted = [...new Set(numbers)].sort((one, other) => one - other);
  for (let index = 0; index < sorted.length;) {
    let end = index;
    while (sorted[end + 1] === (sorted[end] ?? 0) + 1) {
      end += 1;
    }
    parts.push(end > index + 1 ? `${sorted[index]}\u2013${sorted[end]}` : String(sorted[index]));
    index = end > index + 1 ? end + 1 : index + 1;
  }
  return parts.length > most ? `${parts.slice(0, most).join(", ")}, \u2026` : parts.join(", ");
}
