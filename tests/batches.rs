//! Batches: both forms, from none to a hundred thousand events, all or nothing, and the part that is valid.

mod common;

use common::http::{self, Answer, BATCH, Client};
use common::log;
use common::metrics::Scrape;
use common::server::{Launch, Server};
use serde_json::{Value, json};

/// The largest body that is taken.
const BODY_BYTES_MAX: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Array,
    Ndjson,
}

const FORMS: [Form; 2] = [Form::Array, Form::Ndjson];

impl Form {
    fn body(self, events: &[String]) -> String {
        match self {
            Form::Array => format!("[{}]", events.join(",")),
            Form::Ndjson => events.iter().map(|event| format!("{event}\n")).collect(),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Array => "application/json",
            Form::Ndjson => "application/x-ndjson",
        }
    }

    fn send(self, client: &mut Client, path: &str, events: &[String]) -> Answer {
        self.send_text(client, path, &self.body(events))
    }

    fn send_text(self, client: &mut Client, path: &str, body: &str) -> Answer {
        client.call(&http::request(
            "POST",
            path,
            &[("Content-Type", self.content_type())],
            body.as_bytes(),
        ))
    }
}

fn visitor(index: usize) -> String {
    format!("visitor-{index:06}")
}

fn event(index: usize) -> String {
    format!(
        r#"{{"visitor_id":"{}","event":"view","metadata":{{"n":{index}}}}}"#,
        visitor(index)
    )
}

fn events(count: usize) -> Vec<String> {
    (0..count).map(event).collect()
}

/// An event that is refused for one reason.
const TOO_SHORT: &str = r#"{"visitor_id":"short","event":"view"}"#;

fn partial() -> String {
    format!("{BATCH}?partial=true")
}

/// A server that answers when the lines are in the file.
fn start() -> (tempfile::TempDir, Launch, Server) {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).set("METRICS_ACK", "written");
    let server = launch.start();
    (folder, launch, server)
}

fn assert_stored(answer: &Answer, count: usize) {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["ok"], &body["stored"]),
        (202, &json!(true), &json!(count)),
        "{body}"
    );
    assert!(body["file"].is_string(), "{body}");
}

/// The errors of a 422.
fn errors(answer: Answer) -> Vec<Value> {
    let body = answer.expect(422).json();
    body["detail"]
        .as_array()
        .cloned()
        .unwrap_or_else(|| panic!("no list of errors: {body}"))
}

#[test]
fn a_batch_is_stored_whole_and_in_order_whatever_its_size() {
    for form in FORMS {
        for count in [1, 1_000, 100_000] {
            let (_folder, launch, server) = start();
            let answer = form.send(&mut server.connect(), BATCH, &events(count));
            assert_stored(&answer, count);
            let expected: Vec<String> = (0..count).map(visitor).collect();
            assert!(
                log::visitors(&launch.log()) == expected,
                "{form:?} of {count}: order or content differs"
            );
        }
    }
}

#[test]
fn an_empty_batch_stores_nothing_and_is_no_error() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    assert_stored(&client.post(BATCH, "[]"), 0);
    assert_stored(&client.post(BATCH, " [ ]\n"), 0);
    assert_stored(&Form::Ndjson.send_text(&mut client, BATCH, "\n\r\n\n"), 0);
    assert!(log::lines(&launch.log()).is_empty());
}

#[test]
fn batches_of_one_connection_follow_each_other_in_the_file() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    let all = events(600);
    for (index, part) in all.chunks(200).enumerate() {
        let answer = FORMS[index % 2].send(&mut client, BATCH, part);
        assert_stored(&answer, 200);
    }
    assert_eq!(
        log::visitors(&launch.log()),
        (0..600).map(visitor).collect::<Vec<_>>()
    );
}

#[test]
fn one_invalid_event_refuses_the_whole_batch_and_is_pointed_at() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    let mut batch = events(1_000);
    batch[500] = TOO_SHORT.to_owned();
    for form in FORMS {
        let errors = errors(form.send(&mut client, BATCH, &batch));
        assert_eq!(errors.len(), 1, "{form:?}: {errors:?}");
        assert_eq!(errors[0]["type"], "string_too_short", "{form:?}");
        assert_eq!(errors[0]["loc"], json!(["body", 500, "visitor_id"]), "{form:?}");
        assert_eq!(errors[0]["input"], "short", "{form:?}");
    }
    assert!(
        log::lines(&launch.log()).is_empty(),
        "nothing of a refused batch is stored"
    );
    assert_stored(&Form::Array.send(&mut client, BATCH, &events(3)), 3);
}

#[test]
fn an_element_that_is_no_object_refuses_the_batch() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    for form in FORMS {
        let errors = errors(form.send(&mut client, BATCH, &[event(0), "7".to_owned(), event(2)]));
        assert_eq!(
            (&errors[0]["loc"][0], &errors[0]["loc"][1]),
            (&json!("body"), &json!(1)),
            "{errors:?}"
        );
    }
    assert!(log::lines(&launch.log()).is_empty());
}

#[test]
fn text_that_is_not_json_refuses_the_batch() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    let broken = [
        (Form::Array, format!("[{},{}", event(0), event(1))),
        (Form::Array, format!("[{} {}]", event(0), event(1))),
        (Form::Array, format!("[{},]", event(0))),
        (
            Form::Ndjson,
            format!("{}\n{{\"visitor_id\":\n{}\n", event(0), event(2)),
        ),
        (Form::Ndjson, format!("{}\n{} {}\n", event(0), event(1), event(2))),
    ];
    for (form, body) in broken {
        let errors = errors(form.send_text(&mut client, BATCH, &body));
        assert_eq!(errors[0]["type"], "json_invalid", "{body}");
        assert_eq!(errors[0]["loc"][0], "body", "{body}");
    }
    assert!(log::lines(&launch.log()).is_empty());
}

#[test]
fn partial_stores_what_is_valid_and_reports_the_rest() {
    for form in FORMS {
        let (_folder, launch, server) = start();
        let mut batch = events(10);
        batch[0] = TOO_SHORT.to_owned();
        batch[4] = r#"{"visitor_id":"visitor-000004"}"#.to_owned();
        batch[9] = "[]".to_owned();
        let body = form
            .send(&mut server.connect(), &partial(), &batch)
            .expect(202)
            .json();
        assert_eq!(
            (&body["stored"], &body["rejected"]),
            (&json!(7), &json!(3)),
            "{body}"
        );
        let detail = body["detail"].as_array().expect("the refusals are listed");
        let indices: Vec<_> = detail.iter().map(|error| error["loc"][1].clone()).collect();
        assert_eq!(indices, [0, 4, 9], "{body}");
        let expected: Vec<String> = [1, 2, 3, 5, 6, 7, 8].map(visitor).to_vec();
        assert_eq!(log::visitors(&launch.log()), expected, "{form:?}");
    }
}

#[test]
fn partial_skips_an_ndjson_line_that_is_not_json() {
    let (_folder, launch, server) = start();
    let batch = [event(0), r#"{"visitor_id":"cut"#.to_owned(), event(2)];
    let body = Form::Ndjson
        .send(&mut server.connect(), &partial(), &batch)
        .expect(202)
        .json();
    assert_eq!(
        (&body["stored"], &body["rejected"]),
        (&json!(2), &json!(1)),
        "{body}"
    );
    assert_eq!(body["detail"][0]["type"], "json_invalid", "{body}");
    assert_eq!(log::visitors(&launch.log()), [visitor(0), visitor(2)]);
}

#[test]
fn partial_lists_the_first_hundred_refusals_and_counts_them_all() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    let mixed: Vec<String> = (0..300)
        .map(|index| {
            if index % 2 == 0 {
                event(index)
            } else {
                TOO_SHORT.to_owned()
            }
        })
        .collect();
    let body = Form::Array
        .send(&mut client, &partial(), &mixed)
        .expect(202)
        .json();
    assert_eq!(
        (&body["stored"], &body["rejected"]),
        (&json!(150), &json!(150)),
        "{body}"
    );
    let detail = body["detail"].as_array().expect("the refusals are listed");
    assert_eq!(detail.len(), 100);
    assert_eq!(detail[99]["loc"], json!(["body", 199, "visitor_id"]));

    let hopeless = vec![TOO_SHORT.to_owned(); 3];
    let body = Form::Array
        .send(&mut client, &partial(), &hopeless)
        .expect(202)
        .json();
    assert_eq!(
        (&body["stored"], &body["rejected"]),
        (&json!(0), &json!(3)),
        "{body}"
    );
    assert_eq!(log::lines(&launch.log()).len(), 150);
}

#[test]
fn ndjson_takes_crlf_blank_lines_and_a_last_line_without_an_end() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    let body = format!("\r\n{}\r\n\r\n  \n{}\n\n{}", event(0), event(1), event(2));
    assert_stored(&Form::Ndjson.send_text(&mut client, BATCH, &body), 3);
    assert_eq!(log::visitors(&launch.log()), [0, 1, 2].map(visitor));
}

#[test]
fn the_form_of_a_batch_does_not_depend_on_its_content_type() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    for (index, form) in FORMS.into_iter().enumerate() {
        let body = form.body(&[event(2 * index), event(2 * index + 1)]);
        for headers in [&[("Content-Type", "text/plain;charset=UTF-8")][..], &[]] {
            assert_stored(
                &client.call(&http::request("POST", BATCH, headers, body.as_bytes())),
                2,
            );
        }
    }
    assert_eq!(log::lines(&launch.log()).len(), 8);
}

#[test]
fn events_of_a_batch_take_the_user_agent_of_the_request() {
    let (_folder, launch, server) = start();
    let own = r#"{"visitor_id":"visitor-own","event":"view","user_agent":"mine"}"#;
    let body = format!("[{},{own}]", event(0));
    server
        .connect()
        .call(&http::request(
            "POST",
            BATCH,
            &[("User-Agent", "beacon/1")],
            body.as_bytes(),
        ))
        .expect(202);
    let agents: Vec<Value> = log::events(&launch.log())
        .iter()
        .map(|event| event["user_agent"].clone())
        .collect();
    assert_eq!(agents, ["beacon/1", "mine"]);
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let (_folder, launch, server) = start();
    let length = (BODY_BYTES_MAX + 1).to_string();
    let mut client = server.connect();
    client
        .send(&http::head("POST", BATCH, &[("Content-Length", &length)]))
        .unwrap();
    let body = client.answer().expect(413).json();
    assert!(body["detail"].is_string(), "{body}");
    assert!(client.is_at_end(), "what would follow is not the next request");
    assert!(log::lines(&launch.log()).is_empty());
}

/// Events of which a hundred have a hundred kilobytes: a long batch is stored in parts of 8 MiB.
fn long_events(count: usize) -> String {
    let filler = "x".repeat(900);
    (0..count)
        .map(|index| {
            let visitor = visitor(index);
            format!("{{\"visitor_id\":\"{visitor}\",\"event\":\"view\",\"metadata\":{{\"filler\":\"{filler}\"}}}}\n")
        })
        .collect()
}

#[test]
fn a_long_partial_batch_is_stored_part_by_part_and_its_numbers_have_no_gap() {
    let (_folder, launch, server) = start();
    let path = format!("{}&ack=written", partial());
    let count = 20_000;
    let answer = Form::Ndjson.send_text(&mut server.connect(), &path, &long_events(count));
    let ranges: Vec<(usize, usize)> = answer
        .header("x-seq")
        .expect("numbers")
        .split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap();
            (first.parse().unwrap(), last.parse().unwrap())
        })
        .collect();
    assert!(ranges.len() > 1, "{ranges:?}");
    assert_eq!(ranges[0].0, 1);
    assert!(
        ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0),
        "{ranges:?}"
    );
    assert_eq!(ranges.last().unwrap().1, count);
    assert_eq!(answer.header("x-ack"), Some("written"));
    assert_eq!(answer.expect(202).json()["stored"], json!(count));
    server.stop();
    assert_eq!(
        log::visitors(&launch.log()),
        (0..count).map(visitor).collect::<Vec<_>>()
    );
}

#[test]
fn of_a_long_partial_batch_that_is_cut_off_the_answer_says_what_is_stored() {
    let (_folder, launch, server) = start();
    let body = long_events(20_000);
    let mut stored = 0;
    for path in [partial(), format!("{}&ack=written", partial())] {
        let mut client = server.connect();
        let announced = (body.len() + 1).to_string();
        client
            .send(&http::head("POST", &path, &[("Content-Length", &announced)]))
            .unwrap();
        client.send(body.as_bytes()).unwrap();
        client.finish_sending();
        let answer = client.answer().expect(400).json();
        let said = answer["stored"].as_u64().unwrap();
        assert!(said > 5_000, "{answer}");
        assert!(
            answer["detail"]
                .as_str()
                .unwrap()
                .starts_with("The request body is incomplete.")
        );
        // Nothing is left over for the next batch.
        assert_stored(&Form::Ndjson.send(&mut server.connect(), BATCH, &events(3)), 3);
        stored += said + 3;
    }
    // All or nothing: nothing of it.
    let mut client = server.connect();
    let announced = (body.len() + 1).to_string();
    client
        .send(&http::head("POST", BATCH, &[("Content-Length", &announced)]))
        .unwrap();
    client.send(body.as_bytes()).unwrap();
    client.finish_sending();
    let answer = client.answer().expect(400).json();
    assert_eq!(answer, json!({"detail": "The request body is incomplete."}));
    server.stop();
    assert_eq!(log::lines(&launch.log()).len() as u64, stored);
}

#[test]
fn what_all_connections_receive_at_once_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path())
        .set("METRICS_BATCH_BYTES_MAX", "1MiB")
        .set("METRICS_INFLIGHT_BYTES_MAX", "1MiB")
        .start();
    let body = long_events(800);
    let (most, rest) = body.split_at(body.len() - 10);
    let length = body.len().to_string();
    // Who comes first gets it; when both come at once, both may be refused.
    common::await_true("that one is refused while another is received", || {
        let mut slow = server.connect();
        slow.send(&http::head("POST", BATCH, &[("Content-Length", &length)]))
            .unwrap();
        slow.send(most.as_bytes()).unwrap();
        let refused = server.connect().post(BATCH, &body);
        // Small ones need nothing of it.
        assert_stored(
            &Form::Ndjson.send(&mut server.connect(), BATCH, &events(100)),
            100,
        );
        let was_taken = slow.send(rest.as_bytes()).is_ok() && slow.answer().status == 202;
        if refused.status == 202 || !was_taken {
            return false;
        }
        assert_eq!(refused.header("retry-after"), Some("1"));
        let detail = refused.expect(503).json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("METRICS_INFLIGHT_BYTES_MAX"), "{detail}");
        true
    });
    // It has been given back.
    let scrape = Scrape::of(&mut server.connect());
    assert!(scrape.refused("memory") >= 1.0);
    assert_eq!(scrape.get("floodgate_http_inflight_bytes"), 0.0);
    assert_stored(&server.connect().post(BATCH, &body), 800);
}
