// What is wider than its frame can be scrolled by keyboard, too.
addEventListener("load", () => {
  for (const frame of document.querySelectorAll("pre, .table-wrapper, .output, p:has(> img)")) {
    if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
  }
});
