// Ticks at round numbers, in decimal or binary steps, and at round times of day.

/** Round values from 0 (or `low`) to a bit above `high`; about `wanted` of them. */
export function ticks(low, high, wanted = 4, binary = false) {
  const span = high - low || 1;
  const step = binary ? binaryStep(span / wanted) : decimalStep(span / wanted);
  const found = [];
  for (let at = Math.floor(low / step + 1e-9); at * step < high + step * (1 - 1e-9); at += 1) found.push(at * step);
  return found;
}

function decimalStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  const lead = rough / power;
  return (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 2.5 ? 2.5 : lead <= 5 ? 5 : 10) * power;
}

function binaryStep(rough) {
  return 2 ** Math.ceil(Math.log2(Math.max(rough, 1)));
}

const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200];

/** Round times between two Unix times; at most `most` of them. */
export function timeTicks(first, last, most) {
  const step = TIME_STEPS.find((each) => (last - first) / each <= most) ?? 86400;
  const zone = new Date(first * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((first - zone) / step) * step + zone; at <= last; at += step) found.push(at);
  return { times: found, seconds: step < 60 };
}

/** A function from one interval to another. */
export function linear(from, to, first, last) {
  const factor = to === from ? 0 : (last - first) / (to - from);
  return (value) => first + (value - from) * factor;
}
