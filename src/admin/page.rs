//! The status page. One document with its style and script inside, made by maud, which escapes all
//! text: names of jobs come from outside. Should something slip through all the same, the content
//! security policy lets only this page's own style and script run.
//!
//! The page is complete without its script, which fetches it again every two seconds and replaces
//! what has changed; without scripts a `meta refresh` does the same, less smoothly.

use axum::{
    extract::State,
    http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    response::IntoResponse,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use uuid::Uuid;

use super::{
    AdminState,
    row::{Row, age},
    summary::Summary,
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// How many ended workers the page shows; the rest is in `/api/view`.
const ENDED_SHOWN: usize = 50;

/// `GET /`
pub(super) async fn page(State(state): State<AdminState>) -> impl IntoResponse {
    let nonce = Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self'"
    );
    let headers =
        [(CONTENT_TYPE, "text/html; charset=utf-8".to_owned()), (CONTENT_SECURITY_POLICY, policy)];
    (headers, document(&Summary::of(&state), &nonce).into_string())
}

fn document(summary: &Summary, nonce: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                noscript { meta http-equiv="refresh" content="5"; }
                link rel="icon" href="data:,";
                title { (summary.machine_id) " · arroyo-node" }
                style nonce=(nonce) { (PreEscaped(STYLE)) }
            }
            body {
                p #offline role="alert" hidden {
                    "The agent does not answer. This is how it was " span {} "."
                }
                main { (content(summary)) }
                script nonce=(nonce) { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn content(summary: &Summary) -> Markup {
    let (alive, ended): (Vec<_>, Vec<_>) = summary.workers.iter().partition(|row| row.alive);
    html! {
        header {
            h1 { (summary.machine_id) }
            span .badge .(summary.mode) { (summary.mode.replace('_', " ")) }
            p { "arroyo-node " (summary.version) " · up " (age(summary.started_at.before(summary.now))) }
        }
        @for notice in &summary.notices {
            p .notice role="status" { (notice) }
        }
        (slots(summary, &alive))
        (cards(summary))
        section {
            h2 { "Workers" span .count { (alive.len()) } }
            @if alive.is_empty() {
                p .empty { "No worker is alive." }
            } @else {
                (table(&alive, summary, false))
            }
        }
        @if !ended.is_empty() {
            section {
                h2 { "Ended" span .count { (ended.len()) } }
                (table(&ended[..ended.len().min(ENDED_SHOWN)], summary, true))
                @if ended.len() > ENDED_SHOWN {
                    p .empty {
                        "… and " (ended.len() - ENDED_SHOWN) " more in "
                        a href="/api/view" { "/api/view" } "."
                    }
                }
            }
        }
        (footer(summary))
    }
}

fn slots(summary: &Summary, alive: &[&Row]) -> Markup {
    let used = summary.task_slots.saturating_sub(summary.free_slots);
    let starts = alive.iter().scan(0u64, |next, row| {
        let start = *next;
        *next = next.saturating_add(row.slots);
        Some(start)
    });
    html! {
        section .slots {
            h2 { "Slots" span .count { (used) " of " (summary.task_slots) " in use" } }
            svg viewBox=(format!("0 0 {} 1", summary.task_slots.max(1)))
                preserveAspectRatio="none" role="img"
                aria-label=(format!("{used} of {} slots in use", summary.task_slots)) {
                @for (start, row) in starts.zip(alive) {
                    rect .(row.state) x=(start) y="0" width=(row.slots) height="1" {
                        title { (row.job_id) ": " (row.slots) " slots, " (row.state_text()) }
                    }
                }
            }
        }
    }
}

fn cards(summary: &Summary) -> Markup {
    let contact = summary.last_contact.map(age);
    html! {
        section .cards {
            (card("Controller", if summary.registered { "good" } else { "bad" }, html! {
                strong { @if summary.registered { "registered" } @else { "not registered" } }
                span { (summary.controller) }
                span {
                    @match &contact {
                        Some(age) => { "last answer " (age) " ago" }
                        None => { "no answer yet" }
                    }
                }
            }))
            (card("Reports owed", if summary.reports_owed == 0 { "good" } else { "warn" }, html! {
                strong { (summary.reports_owed) }
                span { "ends that the controller has not acknowledged" }
            }))
            @if summary.abandoned_workers > 0 {
                (card("Abandoned", "warn", html! {
                    strong { (summary.abandoned_workers) }
                    span { "live workers that the controller has forgotten" }
                }))
            }
            @if let Some(error) = &summary.program_error {
                (card("Worker program", "bad", html! {
                    strong { "cannot be run" }
                    span { (error) }
                }))
            }
            (card("Journal", if summary.journal_error.is_none() { "good" } else { "bad" }, html! {
                @match &summary.journal_error {
                    None => { strong { "healthy" } span { "takes every commit" } }
                    Some(error) => { strong { "not writable" } span { (error) } }
                }
            }))
        }
    }
}

fn card(title: &str, tone: &str, content: Markup) -> Markup {
    html! {
        article .(tone) {
            h2 { (title) }
            (content)
        }
    }
}

fn table(rows: &[&Row], summary: &Summary, ended: bool) -> Markup {
    html! {
        div .table {
            table {
                thead {
                    tr {
                        th { "Job" } th { "State" } th .number { "Slots" }
                        th .number { "Generation" } th .number { "Pid" } th { "Started" }
                        @if ended { th { "Exit" } }
                        th .number { "Worker" }
                    }
                }
                tbody { @for row in rows { (line(row, summary)) } }
            }
        }
    }
}

fn line(row: &Row, summary: &Summary) -> Markup {
    let dash = || "–".to_owned();
    let started = row.started_at.map(|at| (at, age(at.before(summary.now))));
    html! {
        tr {
            td data-label="Job" {
                strong { (row.name) }
                @if row.name != row.job_id { span .id { (row.job_id) } }
            }
            td data-label="State" { span .badge .(row.state) { (row.state_text()) } }
            td .number data-label="Slots" { (row.slots) }
            td .number data-label="Generation" { (row.generation) }
            td .number data-label="Pid" { (row.pid.map_or_else(dash, |pid| pid.to_string())) }
            td data-label="Started" {
                @match started {
                    Some((at, age)) => { time datetime=(at) title=(at) { (age) " ago" } }
                    None => { (dash()) }
                }
            }
            @if let Some(exit) = row.exit {
                td data-label="Exit" {
                    span .(if exit.is_success() { "good" } else { "bad" }) { (exit) }
                }
            }
            td .number .id data-label="Worker" { (row.worker_id) }
        }
    }
}

fn footer(summary: &Summary) -> Markup {
    html! {
        footer {
            @if !summary.facts.is_empty() {
                dl { @for (name, value) in &summary.facts { dt { (name) } dd { (value) } } }
            }
            nav {
                a href="/api/view" { "JSON" }
                a href="/metrics" { "metrics" }
                a href="/readyz" { "readiness" }
                a href="/details" { "details" }
                a href="/config" { "settings" }
            }
            p { "As of " time #now datetime=(summary.now) { (summary.now) } }
        }
    }
}
