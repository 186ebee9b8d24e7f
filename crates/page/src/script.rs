//! Modules as one script, for a page that is one file: a browser loads no module from a disk.

use thiserror::Error;

/// What keeps modules from becoming one script.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScriptError {
    /// A module imports one that is not there.
    #[error("{module} imports {name}, which is not among the modules")]
    Absent {
        /// The module.
        module: String,
        /// What it imports.
        name: String,
    },
    /// Modules import each other in a circle.
    #[error("{0} imports itself, through others or at once")]
    Circle(String),
    /// An import or export in a form that is not read.
    #[error(
        "{module} has `{found}`: write imports as `import {{ a, b }} from \"./name.js\";`, and exports as `export` before a \
         function, a class or one const"
    )]
    Form {
        /// The module.
        module: String,
        /// The line.
        found: String,
    },
    /// Text that would end the script, or hide its end, in an HTML page.
    #[error("{module} has `{found}`, which an HTML parser does not read as part of a script")]
    Html {
        /// The module.
        module: String,
        /// The text.
        found: &'static str,
    },
}

/// The module `main` with all that it imports from `parts`, as the text of one classic script. Each module is a function that is
/// called once, so that their names do not meet.
///
/// # Errors
/// When a module imports what is not there, or itself through others; has an import or export of another form than ours; or
/// holds what would end the script in a page.
pub fn one_script(name: &str, main: &str, parts: &[(&str, &str)]) -> Result<String, ScriptError> {
    let mut writer = Writer {
        parts,
        open: Vec::new(),
        done: Vec::new(),
        script: "\"use strict\";\nconst modules = {};\n".to_owned(),
    };
    writer.write(name, main)?;
    Ok(writer.script)
}

/// JSON that may stand in a script element of a page: only `<` can end it.
#[must_use]
pub fn json_in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

struct Writer<'a> {
    parts: &'a [(&'a str, &'a str)],
    /// Modules whose imports are being written.
    open: Vec<String>,
    done: Vec<String>,
    script: String,
}

impl Writer<'_> {
    /// Writes a module behind those that it imports.
    fn write(&mut self, name: &str, text: &str) -> Result<(), ScriptError> {
        let module = Module::read(name, text)?;
        self.open.push(name.to_owned());
        for (imported, _) in &module.imports {
            if self.done.contains(imported) {
                continue;
            }
            if self.open.contains(imported) {
                return Err(ScriptError::Circle(imported.clone()));
            }
            let found = self.parts.iter().find(|(part, _)| part == imported);
            let (_, text) = found.ok_or_else(|| ScriptError::Absent {
                module: name.to_owned(),
                name: imported.clone(),
            })?;
            self.write(imported, text)?;
        }
        self.open.pop();
        self.done.push(name.to_owned());
        self.script += &module.as_function(name);
        Ok(())
    }
}

struct Module {
    /// From where, and what.
    imports: Vec<(String, String)>,
    exports: Vec<String>,
    body: String,
}

impl Module {
    fn read(name: &str, text: &str) -> Result<Self, ScriptError> {
        // `<!--` and `<script` make a parser overlook the next end of a script.
        for found in ["</script", "<script", "<!--"] {
            if text.to_ascii_lowercase().contains(found) {
                let module = name.to_owned();
                return Err(ScriptError::Html { module, found });
            }
        }
        let mut module = Self {
            imports: Vec::new(),
            exports: Vec::new(),
            body: String::new(),
        };
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let wrong = || ScriptError::Form {
                module: name.to_owned(),
                found: line.to_owned(),
            };
            if line.starts_with("import") {
                let mut statement = line.to_owned();
                while !statement.ends_with(';') {
                    statement += lines.next().ok_or_else(wrong)?;
                }
                module.imports.push(import(&statement).ok_or_else(wrong)?);
                continue;
            }
            if is_elsewhere(line) {
                return Err(wrong());
            }
            if line.starts_with("export") {
                let (declaration, exported) = export(line).ok_or_else(wrong)?;
                module.exports.push(exported);
                module.body += declaration;
            } else {
                module.body += line;
            }
            module.body.push('\n');
        }
        Ok(module)
    }

    fn as_function(&self, name: &str) -> String {
        let imports = self.imports.iter();
        let imports =
            imports.map(|(from, what)| format!("const {{ {what} }} = modules[\"{from}\"];\n"));
        format!(
            "modules[\"{name}\"] = (() => {{\n{}{}return {{ {} }};\n}})();\n",
            imports.collect::<String>(),
            self.body,
            self.exports.join(", ")
        )
    }
}

/// Whether a line has an import or export that would be left in the script, where neither can be: behind spaces, or as an
/// expression. Lines of comments have none.
fn is_elsewhere(line: &str) -> bool {
    let code = line.trim_start();
    if ["//", "/*", "*"]
        .iter()
        .any(|start| code.starts_with(start))
    {
        return false;
    }
    let is_statement = |word: &str| {
        let rest = code.strip_prefix(word);
        rest.is_some_and(|rest| {
            !rest.starts_with(is_part) && !rest.starts_with([':', '=', ')', ','])
        })
    };
    let is_indented = code.len() < line.len();
    let is_expression = ["import(", "import (", "import.meta"]
        .iter()
        .any(|part| code.contains(part));
    is_expression || is_indented && (is_statement("import") || is_statement("export"))
}

/// `import { a, b } from "./name.js";`
fn import(statement: &str) -> Option<(String, String)> {
    let rest = statement.strip_prefix("import {")?;
    let (what, from) = rest.split_once("} from \"./")?;
    let from = from.strip_suffix("\";")?;
    let names: Vec<&str> = what.split(',').map(str::trim).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let are_plain = names.iter().all(|name| is_identifier(name));
    (are_plain && !from.contains(['"', '/'])).then(|| (from.to_owned(), names.join(", ")))
}

/// What is left of a line without its `export`, and the name that it exports.
fn export(line: &str) -> Option<(&str, String)> {
    let declaration = line.strip_prefix("export ")?;
    let kinds = ["function ", "async function ", "class ", "const "];
    let rest = kinds
        .iter()
        .find_map(|kind| declaration.strip_prefix(kind))?;
    let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
    let is_one = !declaration.starts_with("const ") || !has_comma_of_its_own(rest);
    (end > 0 && is_one).then(|| (declaration, rest[..end].to_owned()))
}

/// Whether a line has a comma outside of texts and brackets, behind which a `const` would declare another name.
fn has_comma_of_its_own(line: &str) -> bool {
    let (mut depth, mut quote, mut is_escaped) = (0, None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => return true,
            (None, _) => {}
        }
    }
    false
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_part)
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: (&str, &str) = ("a.js", "export const one = 1;\nconst own = 2;\n");
    const B: (&str, &str) = (
        "b.js",
        "// Says it.\nimport {\n  one,\n} from \"./a.js\";\n\nexport function b() {\n  return one;\n}\n",
    );

    fn error(main: &str, parts: &[(&str, &str)]) -> String {
        one_script("main.js", main, parts).unwrap_err().to_string()
    }

    #[test]
    fn modules_stand_behind_what_they_import_and_once() {
        let main = "import { b } from \"./b.js\";\nimport { one } from \"./a.js\";\nb(one);\n";
        let script = one_script("main.js", main, &[B, A]).unwrap();
        let expected = "\"use strict\";\nconst modules = {};\n\
            modules[\"a.js\"] = (() => {\nconst one = 1;\nconst own = 2;\nreturn { one };\n})();\n\
            modules[\"b.js\"] = (() => {\nconst { one } = modules[\"a.js\"];\n// Says it.\n\nfunction b() {\n  return one;\n}\n\
            return { b };\n})();\n\
            modules[\"main.js\"] = (() => {\nconst { b } = modules[\"b.js\"];\nconst { one } = modules[\"a.js\"];\nb(one);\n\
            return {  };\n})();\n";
        assert_eq!(script, expected);
    }

    #[test]
    fn what_is_not_there_and_circles_are_refused() {
        assert_eq!(
            error("import { x } from \"./x.js\";", &[A]),
            "main.js imports x.js, which is not among the modules"
        );
        let round = (
            "a.js",
            "import { b } from \"./b.js\";\nexport const one = b;\n",
        );
        assert_eq!(
            error("import { b } from \"./b.js\";", &[round, B]),
            "b.js imports itself, through others or at once"
        );
    }

    #[test]
    fn other_forms_are_refused_and_not_left_out() {
        for line in [
            "import x from \"./a.js\";",
            "import * as x from \"./a.js\";",
            "import { one as two } from \"./a.js\";",
            "import { one } from \"../a.js\";",
            "import { one } from \"https://example.org/a.js\";",
            "import(\"./a.js\");",
            "  import { one } from \"./a.js\";",
            "const a = await import(\"./a.js\");",
            "const here = import.meta.url;",
            "  export const a = 1;",
            "\texport { a };",
            "import { one } from \"./a.js\"",
            "export default 1;",
            "export let a = 1;",
            "export const a = 1, b = 2;",
            "export const a = [1, 2],",
            "export { a };",
            "export * from \"./a.js\";",
        ] {
            let error = error(line, &[A]);
            assert!(
                error.starts_with(&format!("main.js has `{line}`: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn commas_in_texts_and_brackets_declare_nothing() {
        for line in [
            "export const a = (one, other) => [one, other];",
            "export const a = \"one, \\\" other\";",
            "export const a = { one: 1, other: 2 };",
            "export const a = `one, other`;",
        ] {
            assert!(one_script("main.js", line, &[]).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_would_end_the_script_is_refused() {
        for text in [
            "// </SCRIPT>",
            "const a = \"<script>\";",
            "const a = \"<!--\";",
        ] {
            assert!(error(text, &[]).contains("HTML parser"), "{text}");
        }
        let json = json_in_script(r#"{"a":"</script><!--"}"#);
        assert_eq!(json, r#"{"a":"\u003c/script>\u003c!--"}"#);
    }
}
