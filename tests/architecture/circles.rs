//! Files of one folder do not import each other in a circle. A node is a file of the folder with the subfolder of its
//! name, or a subfolder; `mod.rs` is the folder's face and no node: what it re-exports counts as the file that has it.

use super::{Source, assert_none, sources, words};
use std::collections::{BTreeMap, BTreeSet};

/// The module path of a source file: `src/vmm/bt/mod.rs` to `vmm::bt`, as segments.
fn module_path(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    inner.split('/').filter(|s| *s != "lib").map(str::to_owned).collect()
}

/// The modules of the library, each with the names that it re-exports and the child that has each.
struct Modules {
    reexports: BTreeMap<Vec<String>, BTreeMap<String, String>>,
}

impl Modules {
    fn new(files: &[Source]) -> Self {
        let mut reexports = BTreeMap::new();
        for file in files {
            let mut names = BTreeMap::new();
            for path in uses(file, true) {
                let first = path.iter().position(|s| s != "self").unwrap_or(0);
                if let [child, .., name] = &path[first..] {
                    names.insert(name.clone(), child.clone());
                }
            }
            reexports.insert(module_path(&file.path), names);
        }
        Self { reexports }
    }

    /// The module in which the item at `path` stands, as far as modules and re-exports tell.
    fn resolve(&self, path: &[String]) -> Vec<String> {
        let mut module: Vec<String> = Vec::new();
        for segment in path {
            let mut child = module.clone();
            child.push(segment.clone());
            if self.reexports.contains_key(&child) {
                module = child;
                continue;
            }
            if let Some(from) = self.reexports.get(&module).and_then(|names| names.get(segment)) {
                child = module.clone();
                child.push(from.clone());
                if self.reexports.contains_key(&child) {
                    module = child;
                }
            }
            break;
        }
        module
    }
}

/// The paths that a file's `use` declarations name, each as segments; only the public ones, or all.
fn uses(file: &Source, public: bool) -> Vec<Vec<String>> {
    let code = file.code();
    let end = code.iter().position(|l| l.trim() == "#[cfg(test)]").unwrap_or(code.len());
    let code = code[..end].join(" ");
    let mut found = Vec::new();
    for at in words(&code, "use") {
        let before = code[..at].trim_end();
        if public && !(before.ends_with("pub") || before.ends_with(')')) {
            continue;
        }
        let Some(tree) = code[at + 3..].split(';').next() else { continue };
        expand(tree.trim(), &mut Vec::new(), &mut found);
    }
    found
}

/// Every path of a `use` tree.
fn expand(tree: &str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let depth = prefix.len();
    match tree.find('{') {
        Some(open) => {
            let head = tree[..open].trim_end_matches("::");
            prefix.extend(head.split("::").map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()));
            let inner = tree[open + 1..].rsplit_once('}').map_or("", |(inner, _)| inner);
            for item in super::top_level(inner) {
                expand(item, prefix, found);
            }
        }
        None => {
            let path = tree.split(" as ").next().unwrap_or(tree);
            let segments = path.split("::").map(|s| s.trim().to_owned()).filter(|s| !s.is_empty());
            let path: Vec<String> = prefix.iter().cloned().chain(segments).collect();
            found.push(
                path.into_iter().enumerate().filter(|(n, s)| *n == 0 || s != "self").map(|p| p.1).collect(),
            );
        }
    }
    prefix.truncate(depth);
}

/// The absolute path of an import in `module`; `None` for another crate's.
fn absolute(module: &[String], import: &[String]) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    match import.first().map(String::as_str) {
        Some("crate") => return Some(import[1..].to_vec()),
        Some("self") => {}
        Some("super") => {
            for _ in import.iter().take_while(|s| *s == "super") {
                base.pop();
            }
        }
        _ => return None,
    }
    base.extend(import.iter().filter(|s| !["self", "super"].contains(&s.as_str())).cloned());
    Some(base)
}

/// Arrows between the nodes of each folder: who uses whom, with the file that shows it.
fn arrows(files: &[Source]) -> BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> {
    let modules = Modules::new(files);
    let mut arrows: BTreeMap<_, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for file in files {
        let own = module_path(&file.path);
        for import in uses(file, false) {
            let Some(path) = absolute(&own, &import) else { continue };
            let target = modules.resolve(&path);
            let common = own.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (own.get(common), target.get(common)) {
                let folder = arrows.entry(own[..common].to_vec()).or_default();
                folder.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    arrows
}

/// Whether `to` can be reached from `from`.
fn reaches(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for next in graph.get(node).into_iter().flatten() {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    false
}

#[test]
fn files_of_a_folder_import_each_other_in_no_circle() {
    let mut files = sources("src");
    files.retain(|file| !file.path.ends_with("/tests.rs") && !file.path.contains("/tests/"));
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (folder, graph) in arrows(&files) {
        let name = if folder.is_empty() { "src".to_owned() } else { format!("src/{}", folder.join("/")) };
        for (from, tos) in &graph {
            for to in tos {
                seen += 1;
                if reaches(&graph, to, from) {
                    wrong.push(format!("{name}: {from} uses {to}, which leads back to it"));
                }
            }
        }
    }
    assert!(seen > 200, "the scan finds imports at all: {seen}");
    assert_none(wrong, "files of one folder import each other in no circle");
}

#[test]
fn use_trees_and_reexports_are_followed() {
    let file = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let files = [
        file("src/a/mod.rs", "mod b;\nmod c;\npub use b::{B, d as e};\n"),
        file("src/a/b.rs", "use super::c::{self, C};\nuse std::fmt;\n"),
        file("src/a/c.rs", "use crate::a::{B};\n"),
    ];
    let found = arrows(&files);
    let folder = &found[&vec!["a".to_owned()]];
    assert!(reaches(folder, "b", "c") && reaches(folder, "c", "b"), "{folder:?}");
    assert_eq!(uses(&files[1], false)[0], ["super", "c"]);
}
