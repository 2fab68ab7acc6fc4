//! The recipes of a page: what stands in its blocks of `console`, as somebody types it and the machine answers.
//!
//! A line that begins with `$ ` or `# ` is a command; so is what follows it, where the line ends in `\` or begins a here
//! document. What comes next is what it prints: compared where there is anything, with `…` for whatever may stand there.
//! A command that is to fail is one that prints `error: `.

use std::fmt::Write as _;

/// One command, and what it prints.
#[derive(Debug)]
pub(crate) struct Command {
    /// The line of the page.
    pub(crate) line: usize,
    /// What is typed.
    pub(crate) typed: String,
    /// What the page says that it prints; nothing if it says nothing.
    pub(crate) printed: String,
}

/// Stands between the outputs of two commands.
const END: &str = "--- recipe: status ";

impl Command {
    /// All commands of a page, in their order.
    pub(crate) fn all(page: &str) -> Vec<Self> {
        let mut commands: Vec<Self> = Vec::new();
        let mut inside = false;
        // What ends the command that is being read; a here document by its word.
        let mut open: Option<String> = None;
        for (number, line) in page.lines().enumerate() {
            // A block in a list is indented.
            let line = line
                .strip_prefix("   ")
                .filter(|_| !line.starts_with("    "))
                .unwrap_or(line);
            if !inside {
                inside = line == "```console";
                continue;
            }
            if let (Some(end), Some(command)) = (&open, commands.last_mut()) {
                let _ = write!(command.typed, "\n{line}");
                let ended = if end.is_empty() {
                    !line.ends_with('\\')
                } else {
                    line == end
                };
                if ended {
                    open = None;
                }
            } else if line == "```" {
                inside = false;
            } else if let Some(typed) = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "))
            {
                open = continued(typed);
                commands.push(Self {
                    line: number + 1,
                    typed: typed.to_owned(),
                    printed: String::new(),
                });
            } else {
                let command = commands.last_mut().expect("a block begins with a command");
                command.printed.push_str(line);
                command.printed.push('\n');
            }
        }
        commands
    }

    /// A script that runs them in one shell.
    pub(crate) fn script(commands: &[Self]) -> String {
        let mut script = String::new();
        for command in commands {
            // Not in a shell of its own, so that variables and the directory stay.
            let _ = write!(
                script,
                "{{ {}\n}} 2>&1 </dev/null\necho \"{END}$?\"\n",
                command.typed
            );
        }
        script
    }

    /// What each printed, and whether it succeeded.
    pub(crate) fn answers(output: &str) -> Vec<(String, bool)> {
        let mut answers = Vec::new();
        let mut printed = String::new();
        for line in output.lines() {
            if let Some((before, status)) = line.split_once(END) {
                // Output without a line end.
                printed.push_str(before);
                answers.push((std::mem::take(&mut printed), status == "0"));
            } else {
                printed.push_str(line);
                printed.push('\n');
            }
        }
        answers
    }

    /// Whether the page says that it fails.
    pub(crate) fn fails(&self) -> bool {
        self.printed.contains("error: ")
    }

    /// Whether the page has it right.
    pub(crate) fn describes(&self, printed: &str, succeeded: bool) -> bool {
        succeeded != self.fails()
            && (self.printed.is_empty() || fits(self.printed.trim_end(), printed.trim_end()))
    }
}

fn continued(line: &str) -> Option<String> {
    if line.ends_with('\\') {
        return Some(String::new());
    }
    let (_, word) = line.split_once("<<")?;
    let word = word.split([' ', '>']).next().unwrap_or(word);
    Some(word.trim_matches('\'').to_owned())
}

/// Whether a text is the pattern's, in which `…` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn a_page_is_read_as_it_is_typed() {
    let page = "text\n```sh\n$ not this\n```\n```console\n$ one \\\n    more\nout…\n# cat <<END >file\n# text\nEND\n```\n";
    let commands = Command::all(page);
    let typed: Vec<_> = commands
        .iter()
        .map(|command| command.typed.as_str())
        .collect();
    assert_eq!(typed, ["one \\\n    more", "cat <<END >file\n# text\nEND"]);
    assert!(commands[0].describes("out of it\n", true));
    assert!(!commands[0].describes("output", false) && !commands[0].describes("other", true));
}

#[test]
fn dots_stand_for_anything() {
    assert!(fits("a … c", "a b c") && fits("…", "") && fits("a", "a"));
    assert!(!fits("a … c", "a b d") && !fits("a", "ab") && !fits("b…", "ab"));
}
