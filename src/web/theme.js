// Runs before the page is painted, so that a chosen theme does not flash up as the other one. Without a choice, or where
// nothing may be stored, the system decides.
"use strict";
try {
  const theme = localStorage.getItem("floodgate.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* Storage is switched off. */ }
