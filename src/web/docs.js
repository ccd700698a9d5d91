// The page at /docs: what /openapi.json says, to read and to try.

const byId = id => document.getElementById(id)
// Texts become text nodes, never markup.
const make = (tag, attributes, ...children) => {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value)
    else if (value === true) element.setAttribute(name, "")
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value)
  }
  element.append(...children.flat(9).filter(child => child !== null && child !== undefined && child !== false))
  return element
}
// The little of Markdown that descriptions use: paragraphs and `code`.
const prose = text => (text || "").split("\n\n").filter(Boolean).map(part => make("p", null, inline(part)))
const inline = text => (text || "").split(/(`[^`]*`)/).filter(Boolean)
  .map(part => part.startsWith("`") ? make("code", null, part.slice(1, -1)) : part)

let api
const resolve = thing => {
  for (let steps = 0; thing && thing.$ref && steps < 20; steps++) {
    const { $ref, ...beside } = thing
    const found = $ref.slice(2).split("/").reduce((at, step) => at && at[step.replace(/~1/g, "/").replace(/~0/g, "~")], api)
    thing = { ...found, ...beside }
  }
  return thing || {}
}
const variants = schema => schema.oneOf || schema.anyOf
const typeOf = (given, depth = 0) => {
  const schema = resolve(given)
  if (depth > 6) return "…"
  if (schema.enum) return schema.enum.join(" | ")
  if (variants(schema)) return [...new Set(variants(schema).map(one => typeOf(one, depth + 1)))].join(" | ")
  const types = [schema.type === undefined ? "any" : schema.type].flat()
  return types.map(type => {
    if (type === "array") return "array of " + typeOf(schema.items || {}, depth + 1)
    if (type === "integer" || type === "number") return type + bounds(schema.minimum, schema.maximum)
    return schema.format && type === "string" ? schema.format : type
  }).join(" | ")
}
const bounds = (least, most) =>
  least !== undefined && most !== undefined ? ` ${least} to ${most}` : most !== undefined ? ` up to ${most}` : ""

// The members of an object, and of what it is made of.
const members = (given, above = []) => {
  const schema = resolve(given)
  if (above.length > 5) return null
  if (variants(schema)) {
    return variants(schema).map(one => [resolve(one).description && make("p", { class: "soft" }, resolve(one).description), members(one, [...above, given])])
  }
  if (schema.items) return members(schema.items, [...above, given])
  if (!schema.properties) return null
  const required = schema.required || []
  return make("ul", { class: "members" }, Object.entries(schema.properties).map(([name, member]) => make("li", null,
    make("code", null, name), " ", make("span", { class: "soft mono" }, typeOf(member) + (required.includes(name) ? "" : ", optional")),
    resolve(member).description && make("div", null, inline(resolve(member).description)),
    members(member, [...above, given]))))
}

// An example of what a schema describes.
const example = (given, depth = 0) => {
  const schema = resolve(given)
  if (schema.example !== undefined) return schema.example
  if (schema.examples && schema.examples.length) return schema.examples[0]
  if (schema.default !== undefined) return schema.default
  if (schema.enum) return schema.enum[0]
  if (depth > 5) return null
  if (variants(schema)) return example(variants(schema)[0], depth + 1)
  const type = [schema.type].flat()[0]
  if (type === "array") return [example(schema.items || {}, depth + 1)]
  if (type === "object") {
    return Object.fromEntries(Object.entries(schema.properties || {}).map(([name, member]) => [name, example(member, depth + 1)]))
  }
  return { string: schema.format === "date-time" ? "2026-11-22T12:00:00Z" : "text", integer: 0, number: 0, boolean: true }[type] ?? null
}
const exampleOf = content => {
  const value = content.example !== undefined ? content.example : example(content.schema || {})
  return typeof value === "string" ? value : JSON.stringify(value, null, 2)
}

const parameterTable = parameters => parameters.length > 0 && [
  make("h4", null, "Parameters"),
  make("table", null, make("tbody", null, parameters.map(parameter => make("tr", null,
    make("th", { scope: "row" }, make("code", null, parameter.name), " ", make("span", { class: "soft" }, parameter.in === "header" ? "header" : "")),
    make("td", { class: "type" }, typeOf(parameter.schema || {}) + (parameter.required ? "" : ", optional")),
    make("td", null, inline(parameter.description), parameter.schema && resolve(parameter.schema).default !== undefined
      ? [" Default: ", make("code", null, String(resolve(parameter.schema).default)), "."] : null)))))]

const contentShown = content => Object.entries(content || {}).map(([type, one]) => make("div", null,
  make("code", { class: "soft" }, type), members(one.schema || {}), make("pre", null, exampleOf(one))))

const responses = operation => [make("h4", null, "Answers"), Object.entries(operation.responses).map(([status, given]) => {
  const response = resolve(given)
  return make("details", null,
    make("summary", { class: "answer" }, make("span", { class: "status " + (status < 400 ? "ok" : "fail") }, status), " ", inline(response.description)),
    make("div", null,
      Object.entries(response.headers || {}).map(([name, header]) => make("div", null, make("code", null, name), " ", inline(header.description))),
      contentShown(response.content)))
})]

const quoted = text => "'" + text.replaceAll("'", "'\\''") + "'"

// A form that sends a request and shows its answer as it comes.
const tryIt = (path, method, operation, parameters) => {
  const fields = parameters.map(parameter => {
    const schema = resolve(parameter.schema || {})
    const many = [schema.type].flat().includes("array")
    const choices = schema.enum || ([schema.type].flat().includes("boolean") ? ["true", "false"] : null)
      || (variants(schema) || []).flatMap(one => resolve(one).enum || [])
    const field = choices && choices.length > 0
      ? make("select", null, make("option", { value: "" }, "–"), choices.map(choice => make("option", null, String(choice))))
      : make("input", { placeholder: many ? "several with commas" : parameter.example || "", spellcheck: "false" })
    return { parameter, many, field, label: make("label", null, parameter.name, parameter.required ? " (required)" : "", field) }
  })
  const body = resolve(operation.requestBody || null)
  const kinds = Object.keys(body.content || {})
  const kind = make("select", null, kinds.map(one => make("option", null, one)))
  const text = make("textarea", { spellcheck: "false" })
  const fill = () => {
    if (!kinds.length) return
    text.value = exampleOf(body.content[kind.value || kinds[0]])
    text.rows = Math.min(16, text.value.split("\n").length + 1)
  }
  kind.addEventListener("change", fill)
  fill()
  const result = make("div", { class: "result", "aria-live": "polite" })
  const stop = make("button", { type: "button", hidden: true }, "Stop")
  const target = () => {
    const query = new URLSearchParams()
    for (const { parameter, many, field } of fields) {
      if (parameter.in !== "query" || field.value === "") continue
      for (const value of many ? field.value.split(",") : [field.value]) query.append(parameter.name, value.trim())
    }
    return path + (query.size ? "?" + query : "")
  }
  const headers = key => {
    const list = {}
    if (kinds.length) list["Content-Type"] = kind.value
    for (const { parameter, field } of fields) if (parameter.in === "header" && field.value) list[parameter.name] = field.value
    if (key && operation.security) list.Authorization = "Bearer " + key
    return list
  }
  const curl = () => ["curl", "-i", ...Object.entries(headers(byId("key").value ? "$KEY" : "")).map(([name, value]) =>
    "-H " + (value.includes("$KEY") ? `"${name}: ${value}"` : quoted(`${name}: ${value}`))),
    kinds.length ? "--data-binary " + quoted(text.value) : "", quoted(location.origin + target())].filter(Boolean).join(" ")
  const send = async event => {
    event.preventDefault()
    const abort = new AbortController()
    stop.onclick = () => abort.abort()
    stop.hidden = false
    const line = make("p", null, "Sending…")
    const head = make("pre", { hidden: true })
    const shown = make("pre", { hidden: true })
    result.replaceChildren(line, head, shown, make("details", null, make("summary", null, "As a command"), make("pre", null, curl())))
    const began = performance.now()
    const took = () => `${Math.round(performance.now() - began)} ms`
    try {
      const answer = await fetch(target(), {
        method: method.toUpperCase(), headers: headers(byId("key").value), body: kinds.length ? text.value : undefined,
        signal: abort.signal, cache: "no-store", credentials: "omit",
      })
      line.replaceChildren(make("strong", { class: answer.ok ? "ok" : "fail" }, `${answer.status} ${answer.statusText}`), ` in ${took()}`)
      head.hidden = false
      head.textContent = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n")
      await show(answer, shown)
    } catch (error) {
      if (error.name === "AbortError") line.append(` stopped after ${took()}`)
      else line.replaceChildren(make("strong", { class: "fail" }, "No answer: " + error.message))
    }
    stop.hidden = true
  }
  return make("form", { class: "try", onsubmit: send },
    make("h4", null, "Try it"),
    fields.length > 0 && make("div", { class: "fields" }, fields.map(field => field.label)),
    kinds.length > 1 && make("label", null, "Content-Type", kind),
    kinds.length > 0 && make("label", null, "Body", text),
    make("div", { class: "actions" }, make("button", { class: "send" }, "Send"), stop,
      method === "post" && make("span", { class: "soft" }, "This stores events in the log.")),
    result)
}
const SHOWN_MAX = 200000
const show = async (answer, shown) => {
  const isJson = (answer.headers.get("content-type") || "").includes("json")
  const decoder = new TextDecoder()
  const reader = answer.body.getReader()
  let text = ""
  shown.hidden = false
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    text += decoder.decode(value, { stream: true })
    if (text.length > SHOWN_MAX) { await reader.cancel(); text = text.slice(0, SHOWN_MAX) + "\n… (the rest is not shown)"; break }
    shown.textContent = text
    if (!isJson) shown.scrollTop = shown.scrollHeight
  }
  if (isJson) { try { text = JSON.stringify(JSON.parse(text), null, 2) } catch { /* as it came */ } }
  shown.textContent = text
  shown.scrollTop = 0
  shown.hidden = text === ""
}

const endpoint = (path, method, operation) => {
  const parameters = (operation.parameters || []).map(resolve)
  const body = resolve(operation.requestBody || null)
  return make("article", { id: operation.operationId },
    make("h3", null, make("span", { class: "verb " + method }, method.toUpperCase()),
      make("a", { href: "#" + operation.operationId, class: "mono" }, path), make("span", { class: "soft" }, operation.summary || "")),
    prose(operation.description),
    parameterTable(parameters),
    body.content && [make("h4", null, "Body"), prose(body.description), Object.entries(body.content).map(([type, one]) =>
      make("details", null, make("summary", null, make("code", null, type)),
        make("div", null, members(one.schema || {}), make("pre", null, exampleOf(one)))))],
    responses(operation),
    tryIt(path, method, operation, parameters))
}

const render = () => {
  byId("version").textContent = `${api.info.version} · OpenAPI ${api.openapi}`
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, operation })))
  const nav = [], main = [make("div", { class: "lead" }, prose(api.info.description))]
  for (const tag of api.tags) {
    const own = operations.filter(({ operation }) => (operation.tags || []).includes(tag.name))
    if (!own.length) continue
    nav.push(make("h2", null, tag.name), own.map(({ path, method, operation }) =>
      make("a", { href: "#" + operation.operationId, title: path }, make("span", { class: "verb " + method }, method.toUpperCase()), operation.summary)))
    main.push(make("h2", { class: "group" }, tag.name), make("p", null, inline(tag.description)),
      own.map(({ path, method, operation }) => endpoint(path, method, operation)))
  }
  byId("nav").replaceChildren(...nav.flat())
  byId("main").replaceChildren(...main.flat())
  if (location.hash) byId(location.hash.slice(1))?.scrollIntoView()
}

byId("keys").addEventListener("submit", event => event.preventDefault())
fetch("/openapi.json").then(answer => {
  if (!answer.ok) throw new Error("status " + answer.status)
  return answer.json()
}).then(description => { api = description; render() })
  .catch(error => { byId("lead").textContent = "The description could not be loaded: " + error.message })
