// Asks for the API key that a server wants.

import { freshId, h } from "./dom.js";

/** Shows a question in `place`, and promises the key that somebody gives. */
export function askForKey(place, wasWrong) {
  return new Promise((resolve) => {
    const [id, hint] = [freshId("key"), freshId("hint")];
    const field = h("input", { id, type: "password", autocomplete: "off", required: true, "aria-describedby": hint });
    const form = h(
      "form",
      {
        class: "notice",
        on: {
          submit: (event) => {
            event.preventDefault();
            const key = field.value.trim();
            if (!/^[\x21-\x7e]+$/.test(key)) {
              field.setCustomValidity("A key is letters, digits and signs without space.");
              field.reportValidity();
              return;
            }
            place.replaceChildren();
            resolve(key);
          },
        },
      },
      h("label", { for: id }, wasWrong ? "That key is wrong. The API key of this server:" : "This server wants an API key:"),
      h("div", { class: "row" }, field, h("button", { type: "submit", class: "primary" }, "Use it")),
      h("p", { id: hint, class: "note" }, "It is in the file of --api-key-file. This tab keeps it until it is closed."),
    );
    field.addEventListener("input", () => field.setCustomValidity(""));
    place.replaceChildren(form);
    field.focus();
  });
}
