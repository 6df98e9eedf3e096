/** Dates as the reader's own locale writes them. A FHIR date may be a year, a month or a day: it is shown no finer. */

const year = new Intl.DateTimeFormat(undefined, { year: "numeric", timeZone: "UTC" });
const month = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "long", timeZone: "UTC" });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", timeZone: "UTC" });
const localDay = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const localMonth = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "long" });
const dayOfMonth = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const minute = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const second = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit" });
const distance = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** A calendar date (`1984`, `1984-03`, `1984-03-07`): the same day in every time zone. */
export function formatDate(date: string): string {
  const at = new Date(date);
  if (Number.isNaN(at.getTime())) return date;
  return date.length === 4 ? year.format(at) : date.length === 7 ? month.format(at) : day.format(at);
}

export const formatDay = (at: Date): string => localDay.format(at);
export const formatDayOfMonth = (at: Date): string => dayOfMonth.format(at);
export const formatMonth = (at: Date): string => localMonth.format(at);
export const formatMinute = (at: Date): string => minute.format(at);
export const formatSecond = (at: Date): string => second.format(at);

/** `now`, `3 minutes ago`, `yesterday`, and after a week the day itself; today's and yesterday's carry the time. */
export function formatMoment(at: Date, now: Date): string {
  const ago = now.getTime() - at.getTime();
  if (ago < MINUTE && ago > -MINUTE) return distance.format(0, "second");
  if (ago >= 0 && ago < 60 * MINUTE) return distance.format(-Math.floor(ago / MINUTE), "minute");
  const days = daysBetween(at, now);
  if (days === 0 || days === 1) return `${distance.format(-days, "day")}, ${formatMinute(at)}`;
  return days > 1 && days < 7 ? distance.format(-days, "day") : formatDay(at);
}

/** Completed years between a birth date and a day (of death, or today); months and days for the very young. */
export function formatAge(birthDate: string, on: Date): string {
  const [born, bornMonth, bornDay] = birthDate.split("-").map(Number);
  if (born === undefined || Number.isNaN(born)) return "";
  if (bornMonth === undefined) return `about ${on.getFullYear() - born} y`;
  const months =
    (on.getFullYear() - born) * 12 + on.getMonth() + 1 - bornMonth - (on.getDate() < (bornDay ?? 1) ? 1 : 0);
  if (months >= 24) return `${Math.floor(months / 12)} y`;
  if (months >= 1) return `${months} mo`;
  return `${Math.max(0, daysBetween(new Date(born, bornMonth - 1, bornDay ?? 1), on))} d`;
}

function daysBetween(from: Date, to: Date): number {
  const midnight = (at: Date): number => new Date(at.getFullYear(), at.getMonth(), at.getDate()).getTime();
  return Math.round((midnight(to) - midnight(from)) / DAY);
}
