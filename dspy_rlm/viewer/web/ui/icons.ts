/**
 * The page's icons: paths in a box of 16 by 16, drawn with a stroke of the text's colour.
 */

export const ICONS = {
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10ZM10.7 10.7 14 14",
  theme: "M8 13.5a5.5 5.5 0 1 0 0-11Zm0 0v-11m0 11a5.5 5.5 0 1 1 0-11",
  help:
    "M6 6.2a2 2 0 1 1 2.9 1.8c-.6.3-.9.7-.9 1.4m0 2.1v.1M8 14.2A6.2 6.2 0 1 0 8 1.8a6.2 6.2 0 0 0 0 12.4Z",
  compare: "M5.5 2.5h-3v11h3m5-11h3v11h-3M8 1.5v13",
  menu: "M2.5 4h11m-11 4h11m-11 4h11",
  close: "m4 4 8 8m0-8-8 8",
  right: "m6 3.5 4.5 4.5L6 12.5",
  left: "M10 3.5 5.5 8l4.5 4.5",
  check: "m3.5 8.5 3 3 6-7",
  cross: "m4.5 4.5 7 7m0-7-7 7",
  dot: "M8 8h.01",
  flag: "M4 14V2.5h8l-1.8 2.8L12 8H4",
  warning: "M8 2.2 1.8 13.2h12.4ZM8 6.5v3m0 1.9v.1",
  copy: "M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8Z",
  half: "M8 14a6 6 0 1 0 0-12 6 6 0 0 0 0 12ZM8 5v3.2l2 1.3",
} as const;

export type IconName = keyof typeof ICONS;
