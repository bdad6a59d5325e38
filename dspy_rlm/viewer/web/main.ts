/** The viewer's entry point. */
document.getElementById("app")?.removeAttribute("hidden");
