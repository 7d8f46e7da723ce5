// Renders the views of LuCI with stand-ins for its parts: luci.js FOLDER STATUS. What a view asks
// of them is what LuCI's own have; what it shows is looked at as text.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');

const [folder, statusFile] = process.argv.slice(2);
const resources = path.join(folder, 'htdocs/luci-static/resources');
const status = JSON.parse(fs.readFileSync(statusFile, 'utf8'));

String.prototype.format = function (...values) {
  return this.replace(/%[sd]/g, () => values.shift());
};

const text = (it) => (Array.isArray(it) ? it.map(text).join(' ')
  : it && it.children ? text(it.children) : it == null ? '' : String(it));
const globals = {
  _: (it) => it,
  E: (name, attributes, children) => ({ name, attributes, children: [].concat(children) }),
  cbi_update_table: (table, rows, empty) => {
    table.children.push(...(rows.length ? rows.map((it) => globals.E('tr', {}, it)) : [empty]));
  },
};

// What ubus is asked must be allowed by the access list, and be there in the backend.
const acl = JSON.parse(fs.readFileSync(path.join(folder, 'root/usr/share/rpcd/acl.d/luci-app-edgevip.json')));
const backend = fs.readFileSync(path.join(folder, 'root/usr/share/rpcd/ucode/edgevip.uc'), 'utf8');
let answers = {};
const declared = [];
const base = { extend: (it) => it };
const parts = {
  baseclass: base,
  view: base,
  poll: { polled: [], add(it, seconds) { assert(seconds > 0); this.polled.push(it); } },
  dom: { content: (node, it) => { node.children = [it]; } },
  rpc: {
    declare({ object, method }) {
      declared.push(method);
      assert(acl['luci-app-edgevip'].read.ubus[object].includes(method), `${method} is not allowed`);
      assert(backend.includes(`'${object}'`) && new RegExp(`\\b${method}: \\{`).test(backend));
      return () => Promise.resolve(answers[method]);
    },
  },
};

class Section {
  constructor(kind) { this.kind = kind; this.options = []; }
  option(widget, name) {
    assert.strictEqual(typeof widget, 'function', `the widget of ${name}`);
    const it = { name, value() {} };
    this.options.push(it);
    return it;
  }
}
class Map_ {
  constructor(config) { Map_.last = this; this.config = config; this.sections = []; }
  section(widget, ...names) {
    assert.strictEqual(typeof widget, 'function');
    const it = new Section(widget.isNamed ? names[1] : names[0]);
    this.sections.push(it);
    return it;
  }
  render() { return this; }
}
const widget = (isNamed) => Object.assign(function () {}, { isNamed });
parts.form = {
  Map: Map_, NamedSection: widget(true), GridSection: widget(false), Flag: widget(), Value: widget(),
  ListValue: widget(), DynamicList: widget(),
};
parts['tools.widgets'] = { NetworkSelect: widget() };

function load(file) {
  const source = fs.readFileSync(path.join(resources, file), 'utf8');
  const required = [...source.matchAll(/^'require (\S+)(?: as (\S+))?';$/gm)]
    .map(([, name, as]) => [as || name.replace(/\./g, '_'), parts[name]]);
  required.forEach(([name, it]) => assert(it, `${file} requires ${name}`));
  const names = [...Object.keys(globals), ...required.map(([name]) => name)];
  const values = [...Object.values(globals), ...required.map(([, it]) => it)];
  return new Function(...names, source)(...values);
}

async function main() {
  parts.edgevip = load('edgevip.js');
  const overview = load('view/edgevip/overview.js');
  answers = { status: { running: true, status }, check: { faults: ['edgevip.a.address=x: no'] } };
  const page = overview.render(await overview.load());
  const shown = text(page);
  assert(shown.includes('192.0.2.40 here'), shown);
  assert(shown.includes('n1 of 1 members; n1 leads'), shown);
  assert(shown.includes('edgevip.a.address=x: no'), shown);

  answers.status = { running: false };
  await parts.poll.polled[0]();
  assert(text(page).includes('edgevip does not run'), text(page));

  const lease = { ...status, quorum: null, holder: null, vips: [{ vip: 'fd00::1', state: 'absent', why: 'nobody' }] };
  const card = text(parts.edgevip.card({ running: true, status: lease }));
  assert(card.includes('fd00::1 elsewhere nobody') && card.includes('nobody holds the Lease'), card);

  const include = load('view/status/include/65_edgevip.js');
  assert.strictEqual(include.render(await include.load()), null);
  answers.status = { running: true, status };
  assert(text(include.render(await include.load())).includes('192.0.2.40'));

  // Forms write what the program reads.
  load('view/edgevip/settings.js').render();
  const written = Map_.last.sections.map((it) => [it.kind, it.options.map((o) => o.name).join(' ')]);
  assert.strictEqual(Map_.last.config, 'edgevip');
  assert.deepStrictEqual(written, [
    ['edgevip', 'enabled interface name discover vip_raft_profile'],
    ['vip', 'enabled address'],
    ['member', 'enabled address port witness'],
  ]);
  assert.deepStrictEqual([...new Set(declared)].sort(), ['check', 'status']);

  const menu = JSON.parse(fs.readFileSync(path.join(folder, 'root/usr/share/luci/menu.d/luci-app-edgevip.json')));
  for (const { action } of Object.values(menu).filter((it) => it.action.type === 'view')) {
    assert(fs.existsSync(path.join(resources, 'view', `${action.path}.js`)), action.path);
  }
}

main();
