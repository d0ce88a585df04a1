// Keys for the pair view of "Privacy review". A key presses the panel's own button, so that a key can do nothing that a
// click cannot. No key acts while a form or a text field has the focus, nor while the panel is not shown.
(function () {
  const WORDS = { a: "Approve (a)", r: "Reject (r)", e: "Re-edit (e)", n: "Next (n)" };

  function isTyping(target) {
    const name = (target && target.tagName) || "";
    return ["INPUT", "TEXTAREA", "SELECT"].includes(name) || Boolean(target && target.isContentEditable);
  }

  window.addEventListener("keydown", function (event) {
    const word = WORDS[event.key];
    if (!word || event.repeat || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (document.querySelector("[role=dialog]")) return;
    const buttons = Array.from(document.querySelectorAll("button"));
    const button = buttons.find((one) => one.textContent.trim() === word && !one.disabled && one.offsetParent !== null);
    if (!button) return;
    event.preventDefault();
    event.stopPropagation();
    button.click();
  }, true);
})();
