// Code that scrolls sideways can be reached and scrolled by keyboard.
for (const code of document.querySelectorAll("pre > code")) code.tabIndex = 0;
