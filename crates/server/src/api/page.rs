//! The page for people: `/`, and the files that it is made of. All of it is in the binary.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api_error::{ApiError, ErrorResponse};

const INDEX: &str = include_str!("../../page/index.html");

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("../../page/", $name)))),*] };
}

/// What only this page has, each with its contents.
const OWN: [(&str, &str); 19] = files![
    "answer.js" "api.js" "balance-end.js" "balance-setup.js" "balance.js" "belief-panel.js" "belief-picture.js" "compare.js"
    "curl.js" "front-panel.js" "icon.svg" "interview.js" "key.js" "main.js" "page.css" "pair.js" "sampling.js" "url-state.js"
    "written.js"
];

/// What `/page/` has: the page's own files, and the components that every page of a front is made of.
fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
    let style = ("parts.css", panacea_page::STYLE);
    OWN.into_iter().chain(panacea_page::PARTS).chain([style])
}

/// The page runs its own scripts alone, asks nobody but this server, and is shown in no other page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page, for people: answers side by side under several λ, and the balance that fits a person.
#[utoipa::path(get, path = "/", responses((status = 200, content_type = "text/html", body = String)))]
pub async fn index() -> Response {
    served("text/html; charset=utf-8", INDEX)
}

/// What the page is made of.
#[utoipa::path(
    get,
    path = "/page/{file}",
    params(("file" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "A script, a style or a picture", content_type = "text/javascript", body = String),
        (status = 404, body = ErrorResponse)
    )
)]
pub async fn file(name: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::no_path(&error.body_text()))?;
    let found = files().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| ApiError::no_path(&format!("/page/{name}")))?;
    let content_type = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    Ok(served(content_type, text))
}

fn served(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the server has another page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, panacea_runs::as_called(text)).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served_by_a_name_of_its_own() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let there = std::fs::read_dir(folder).unwrap();
        let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let there: BTreeSet<String> = there.collect();
        let own = OWN.iter().map(|(name, _)| (*name).to_owned());
        let own: BTreeSet<String> = own.chain(["index.html".to_owned()]).collect();
        assert_eq!(there, own);
        let names: BTreeSet<&str> = files().map(|(name, _)| name).collect();
        assert_eq!(names.len(), files().count());
    }

    /// What the policy would keep from running or from being seen, and what would let an answer become part of the page.
    #[test]
    fn the_page_has_nothing_that_its_policy_forbids() {
        for (name, text) in files().chain([("index.html", INDEX)]) {
            let forbidden = [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " style=\"",
                "<style",
                "://",
            ];
            let xmlns = "http://www.w3.org/2000/svg";
            let text = text.replace(xmlns, "");
            for part in forbidden {
                assert!(!text.contains(part), "{name} has {part}");
            }
        }
        for script in INDEX.split("<script").skip(1) {
            assert!(
                script.starts_with(" type=\"module\" src=\"/page/"),
                "{script}"
            );
        }
    }
}
