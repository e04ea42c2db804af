#!/usr/bin/env python3
"""Generates ../data/types.txt and ../data/descriptions.txt.gz, the schemas of the built-in kinds.

Run again for a new version of Kubernetes:

    generate_schemas.py --kubectl KUBECTL --helm HELM --k8s-openapi DIR --k8s-pb DIR

* KUBECTL, HELM: Linux binaries of that version (helm links the apiextensions types). Go keeps every struct's fields,
  pointers and tags (json, protobuf, patchStrategy) for reflection: they are read from there (gotypes.py).
* k8s-openapi: the unpacked crate: descriptions, group-version-kinds, which types there are, how lists merge.
* k8s-pb: the unpacked crate (made from the .proto files): the comment markers (+listType, +default, +structType...).

What none of them says is in the tables below. The tests in src/schema check the result against k8s-openapi.
"""
import argparse, glob, gzip, json, os, re, sys
from gotypes import GoTypes

VERSION_MODULE = 'v1_37'

# Types that no binary at hand links: (Go field, Go type, json tag, number).
META = 'k8s.io/apimachinery/pkg/apis/meta/v1'
REG = 'k8s.io/kube-aggregator/pkg/apis/apiregistration/v1'
HAND_MADE = {
    f'{REG}.APIService': [('', META + '.TypeMeta', ',inline', 0), ('', META + '.ObjectMeta', 'metadata,omitempty', 1),
        ('', REG + '.APIServiceSpec', 'spec,omitempty', 2), ('', REG + '.APIServiceStatus', 'status,omitempty', 3)],
    f'{REG}.APIServiceList': [('', META + '.TypeMeta', ',inline', 0), ('', META + '.ListMeta', 'metadata,omitempty', 1),
        ('', f'[]{REG}.APIService', 'items', 2)],
    f'{REG}.APIServiceSpec': [('', f'*{REG}.ServiceReference', 'service,omitempty', 1), ('', 'string', 'group,omitempty', 2),
        ('', 'string', 'version,omitempty', 3), ('', 'bool', 'insecureSkipTLSVerify,omitempty', 4),
        ('', '[]uint8', 'caBundle,omitempty', 5), ('', 'int32', 'groupPriorityMinimum', 7), ('', 'int32', 'versionPriority', 8)],
    f'{REG}.APIServiceStatus': [('', f'[]{REG}.APIServiceCondition', 'conditions,omitempty', 1)],
    f'{REG}.APIServiceCondition': [('', 'string', 'type', 1), ('', 'string', 'status', 2),
        ('', META + '.Time', 'lastTransitionTime,omitempty', 3), ('', 'string', 'reason,omitempty', 4), ('', 'string', 'message,omitempty', 5)],
    f'{REG}.ServiceReference': [('', 'string', 'namespace,omitempty', 1), ('', 'string', 'name,omitempty', 2), ('', '*int32', 'port,omitempty', 3)],
}
HAND_PATCH = {(f'{REG}.APIServiceStatus', 'conditions'): ('merge', 'type')}

# Types served that k8s-openapi does not have as definitions.
EXTRA_TYPES = [META + '.PartialObjectMetadata', META + '.PartialObjectMetadataList',
               'k8s.io/metrics/pkg/apis/metrics/v1beta1.NodeMetricsList', 'k8s.io/metrics/pkg/apis/metrics/v1beta1.PodMetricsList',
               META + '.Table', META + '.TableColumnDefinition', META + '.TableRow', META + '.TableRowCondition']

SCALARS = {'bool': 'bool', 'int32': 'int32', 'int64': 'int64', 'int': 'int64', 'float64': 'double', 'string': 'string',
           'uint32': 'int64', 'uint8': 'int32', 'uint16': 'int32'}
SPECIAL = {
    META + '.Time': 'time', META + '.MicroTime': 'microtime', META + '.FieldsV1': 'fields', META + '.Duration': 'duration',
    'k8s.io/apimachinery/pkg/api/resource.Quantity': 'quantity',
    'k8s.io/apimachinery/pkg/util/intstr.IntOrString': 'int-or-string',
    'k8s.io/apimachinery/pkg/runtime.RawExtension': 'raw',
    'k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON': 'json',
    'k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool': 'schema-or-bool',
    'k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray': 'schema-or-array',
    'k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray': 'schema-or-strings',
}
# Keys of lists newer than the markers, where the patch merge key is not all of them.
LIST_MAP_KEYS = {('PodVolumeHealth', 'healthConditions'): ['status', 'reason'], ('VolumeHealthStatus', 'healthConditions'): ['status', 'reason']}
# Named lists that are messages of their own in protobuf ({repeated string items = 1}).
WRAPPED = {'ExtraValue', 'Verbs'}

# Values of the types marked +enum (OpenAPI publishes them), by Go type.
from enums import ENUMS

# Defaults that markers give by reference.
REF_DEFAULTS = {'AzureDataDiskCachingReadWrite': '"ReadWrite"', 'AzureSharedBlobDisk': '"Shared"'}

def openapi_package(go_package):
    assert go_package.startswith('k8s.io/'), go_package
    return 'io.k8s.' + go_package[len('k8s.io/'):].replace('/', '.')

def openapi_name(go_name):
    package, name = go_name.rsplit('.', 1)
    return openapi_package(package) + '.' + name

# --- k8s-openapi -----------------------------------------------------------------------------------------------------

def rust_string(text):
    """The value of a Rust string literal without its quotes."""
    return (text.replace('\\\\', '\0').replace('\\"', '"').replace('\\n', '\n').replace('\\t', '\t').replace("\\'", "'")
            .replace('\\r', '\r').replace('\0', '\\'))

class OpenApi:
    def __init__(self, root):
        self.types = {}
        for path in sorted(glob.glob(os.path.join(root, 'src', VERSION_MODULE, '**', '*.rs'), recursive=True)):
            text = open(path).read()
            found = re.search(r'fn schema_name\(\).*?"(io\.[^"]+)"\.into\(\)', text, re.S)
            if not found or 'for List<T>' in text:
                continue
            self.types[found.group(1)] = self.read(text)

    def read(self, text):
        t = {'description': '', 'properties': {}, 'required': [], 'gvk': None, 'listable': None, 'merge': {}, 'path': ''}
        body = text[text.index('json_schema!({'):] if 'json_schema!({' in text else ''
        head = re.search(r'^            "description": "((?:[^"\\]|\\.)*)"', body, re.M)
        if head:
            t['description'] = rust_string(head.group(1))
        required = re.search(r'^            "required": \[(.*?)\]', body, re.M | re.S)
        if required:
            t['required'] = re.findall(r'"([^"]+)"', required.group(1))
        for m in re.finditer(r'^                "([^"]+)": (.*?)(?=^                "|^            \})', body, re.M | re.S):
            name, value = m.groups()
            if not value.startswith(('{', '(', '__gen')):
                continue
            d = re.search(r'^(?:                    "description": |.*?insert\("description"\.into\(\), )"((?:[^"\\]|\\.)*)"', value, re.M)
            t['properties'][name] = rust_string(d.group(1)) if d else ''
        consts = dict(re.findall(r"const (GROUP|KIND|VERSION): &'static str = \"([^\"]*)\"", text))
        if 'KIND' in consts:
            t['gvk'] = (consts['GROUP'], consts['VERSION'], consts['KIND'])
        lk = re.search(r'const LIST_KIND: .* = "([^"]+)"', text)
        t['listable'] = lk.group(1) if lk else None
        # How lists and maps merge, by Rust field name; the JSON names by the serializer.
        json_names = {}
        for m in re.finditer(r'"([^"]+)" => Field::Key_(\w+),', text):
            json_names[m.group(2)] = m.group(1)
        for m in re.finditer(r'merge_strategies::(list|map)::(\w+)\(\s*&mut self\.(\w+),\s*other\.\w+(,\s*&\[(.*?)\])?', text, re.S):
            what, how, field, _, keys = m.groups()
            t['merge'][json_names.get(field, field)] = (what, how, re.findall(r'lhs\.(\w+)', keys or ''))
        return t

# --- k8s-pb ----------------------------------------------------------------------------------------------------------

class Protos:
    """Doc comments by Go package, message (lower case: the crate respells names) and field number."""
    def __init__(self, root):
        self.messages, self.fields = {}, {}
        for path in glob.glob(os.path.join(root, 'src', '**', 'mod.rs'), recursive=True):
            package = os.path.dirname(os.path.relpath(path, os.path.join(root, 'src')))
            go = 'k8s.io/' + package.replace('apiextensions_apiserver', 'apiextensions-apiserver').replace('kube_aggregator', 'kube-aggregator')
            docs, prost, message = [], '', None
            for line in open(path):
                s = line.strip()
                if s.startswith('///'):
                    docs.append(s[4:])
                elif s.startswith('#[prost('):
                    prost = s
                elif s.startswith('pub struct '):
                    message = s.split()[2].strip('{').lower()
                    self.messages[(go, message)] = docs; docs = []
                elif s.startswith('pub ') and ':' in s and prost:
                    number = int(re.search(r'tag\s*=\s*"(\d+)"', prost).group(1))
                    self.fields[(go, message, number)] = (docs, prost); docs, prost = [], ''
                elif s.startswith(('}', 'pub mod', 'impl', 'pub enum')):
                    docs, prost = [], ''

def markers(docs):
    out = {}
    for line in docs:
        if line.startswith('+'):
            key, _, value = line[1:].partition('=')
            out.setdefault(key.strip(), []).append(value.strip())
    return out

def prose(docs):
    """Comment lines as OpenAPI joins them."""
    out, paragraph = [], []
    for line in docs + ['']:
        line = line.rstrip()
        if line.startswith('+') or line.startswith('---') or line.startswith('TODO'):
            continue
        if not line:
            if paragraph: out.append(' '.join(paragraph))
            paragraph = []
        else:
            paragraph.append(line.strip())
    text = '\n\n'.join(out)
    text = re.sub(r'<(https?://[^>]+)>', r'\1', text)
    return text.replace('\\[', '[').replace('\\]', ']').replace('\\_', '_').replace('\\*', '*').replace('\\<', '<')

# --- putting it together ---------------------------------------------------------------------------------------------

class Generator:
    def __init__(self, args):
        self.go = [GoTypes(args.kubectl), GoTypes(args.helm)]
        self.openapi = OpenApi(args.k8s_openapi)
        self.protos = Protos(args.k8s_pb)
        self.problems = []
        self.types = {}        # OpenAPI name -> (go name, fields)
        self.parts = set()     # types only ever inlined

    def find(self, go_name):
        package, name = go_name.rsplit('.', 1)
        for g in self.go:
            t = g.byname.get((package, name))
            if t is not None:
                return g, t
        return None, None

    def fields(self, go_name):
        """(json name, options, embedded, type text, number, patch strategy, merge key) of a struct."""
        if go_name in HAND_MADE:
            for _, ty, tag, number in HAND_MADE[go_name]:
                name, *options = tag.split(',')
                patch = HAND_PATCH.get((go_name, name), ('', ''))
                yield name, options, name == '', ty, number, *patch
            return
        g, t = self.find(go_name)
        if t is None or t['kind'] != 'struct':
            raise KeyError(go_name)
        for field, ty, tag, embedded in t['fields']:
            tags = dict(re.findall(r'(\w+):"([^"]*)"', tag))
            if 'json' not in tags or tags['json'] == '-':
                continue
            name, *options = tags['json'].split(',')
            pb = tags.get('protobuf', '')
            number = int(pb.split(',')[1]) if pb and pb != '-' else 0
            yield (name, options, embedded and name == '', self.go_text(g, ty), number,
                   tags.get('patchStrategy', ''), tags.get('patchMergeKey', ''))

    def go_text(self, g, addr):
        """A Go type with aliases of scalars and plain collections resolved: `*pkg.T`, `[]string`, `map[string]pkg.T`."""
        t = g.cache[addr]
        full = (t['pkg'] + '.' if t['pkg'] else '') + t['name'].split('.')[-1] if t['named'] else ''
        if full in SPECIAL:
            return full
        if t['kind'] == 'ptr':
            return '*' + self.go_text(g, t['elem'])
        if t['kind'] == 'slice':
            inner = g.cache[t['elem']]
            text = '[]uint8' if inner['kind'] == 'uint8' else '[]' + self.go_text(g, t['elem'])
            return 'items' + text if t['named'] and t['name'].split('.')[-1] in WRAPPED else text
        if t['kind'] == 'map':
            return 'map[string]' + self.go_text(g, t['elem'])
        if t['kind'] == 'struct':
            return full
        if t['kind'] == 'interface':
            return 'any'
        if t['kind'] in SCALARS:
            enum = '!' + full if full in ENUMS else ''
            return t['kind'] + enum
        raise ValueError(f'{full}: {t}')

    def expression(self, text):
        """The type text of the data file, and the struct it refers to if any."""
        if text.startswith('*'): return self.expression(text[1:])
        if text == '[]uint8': return 'bytes', None
        if text.startswith('items[]'):
            inner, ref = self.expression(text[7:]); return 'items[]' + inner, ref
        if text.startswith('[]'):
            inner, ref = self.expression(text[2:]); return '[]' + inner, ref
        if text.startswith('map[string]'):
            inner, ref = self.expression(text[11:]); return 'map:' + inner, ref
        if text == 'any': return 'any', None
        base = text.split('!')[0]
        if base in SCALARS: return SCALARS[base], None
        if text in SPECIAL: return SPECIAL[text], None
        return '@' + openapi_name(text), text

    def add(self, go_name, part=False):
        name = openapi_name(go_name)
        if name in self.types:
            if not part: self.parts.discard(name)
            return
        if part: self.parts.add(name)
        try:
            rows = list(self.fields(go_name))
        except KeyError:
            self.problems.append(f'no Go type {go_name}')
            return
        self.types[name] = (go_name, rows)
        for json_name, options, inline, text, number, *_ in rows:
            _, ref = self.expression(text)
            if ref and not ref.endswith('.TypeMeta'):
                self.add(ref, part=inline)

    def properties(self, name):
        """JSON names of a type, inlined ones included."""
        go_name, rows = self.types[name]
        for row in rows:
            if row[2]:
                if row[3].endswith('.TypeMeta'): yield from ('apiVersion', 'kind')
                else: yield from self.properties(openapi_name(row[3].lstrip('*')))
            else:
                yield row[0]

    def run(self):
        go_of = {}
        for g in self.go:
            for (package, name), t in g.byname.items():
                if t['kind'] == 'struct' and package.startswith('k8s.io/'):
                    go_of.setdefault(openapi_package(package) + '.' + name, f'{package}.{name}')
        for go_name in HAND_MADE: go_of[openapi_name(go_name)] = go_name
        special = {openapi_name(s) for s in SPECIAL} | {'io.k8s.apimachinery.pkg.apis.meta.v1.Patch'}
        for name, t in sorted(self.openapi.types.items()):
            if name in special: continue
            if name not in go_of:
                self.problems.append(f'{name}: not in the binaries')
                continue
            self.add(go_of[name])
            if t['listable']:
                self.add(go_of[name].rsplit('.', 1)[0] + '.' + t['listable'])
        for go_name in EXTRA_TYPES: self.add(go_name)

    def row(self, name, go_name, row):
        json_name, options, inline, text, number, strategy, merge_key = row
        package, struct = go_name.rsplit('.', 1)
        docs, prost = self.protos.fields.get((package, struct.lower(), number), ([], '')) if number else ([], '')
        known = bool(docs or prost)
        marks = markers(docs)
        doc = self.openapi.types.get(name, {'properties': {}, 'required': [], 'merge': {}})
        expression, ref = self.expression(text)
        out = []
        pointer = text.startswith('*')
        if number: out.append(str(number))
        else: out.append('-')
        if pointer: out.append('pointer')
        if 'omitempty' in options: out.append('omitempty')
        if 'omitzero' in options: out.append('omitzero')
        # The crate requires metadata everywhere; upstream nowhere.
        optional = 'omitempty' in options or 'omitzero' in options or 'optional' in marks
        if name in self.openapi.types:
            optional = json_name not in doc['required'] or json_name == 'metadata'
        if not optional and not inline: out.append('required')
        if inline: out.append('inline')
        if expression.startswith(('[]', 'items[]')):
            lt = (marks.get('listType') or [''])[0]
            keys = marks.get('listMapKey', [])
            how = doc['merge'].get(json_name)
            if not known and how and how[0] == 'list' and not lt:
                if how[1] == 'map':
                    lt = 'map'; keys = [self.camel(k, ref) for k in how[2]]
                    self.problems.append(f'{name}.{json_name}: list=map({keys}) from the crate (new type)')
                elif how[1] == 'set' and not strategy: lt = 'set'
                elif how[1] == 'atomic': lt = 'atomic'
            if (name.rsplit('.', 1)[1], json_name) in LIST_MAP_KEYS: keys = LIST_MAP_KEYS[name.rsplit('.', 1)[1], json_name]
            if lt == 'map' and not keys: self.problems.append(f'{name}.{json_name}: listType=map without keys')
            if lt: out.append(f'list={lt}' + (f'({",".join(keys)})' if lt == 'map' else ''))
            if how and how[0] == 'list' and known:
                if how[1] != (lt or 'atomic') and not (strategy and how[1] in ('map', 'set')) and not (lt == 'set' and how[1] == 'atomic'):
                    self.problems.append(f'{name}.{json_name}: marker {lt!r} but the crate has {how}')
        mt = (marks.get('mapType') or marks.get('structType') or [''])[0]
        if mt and not inline: out.append(f'map={mt}')
        if strategy: out.append(f'patch={strategy}')
        if merge_key: out.append(f'key={merge_key}')
        if 'default' in marks:
            value = marks['default'][0]
            ref_default = re.match(r'ref\((\w+)\)', value)
            if ref_default: value = REF_DEFAULTS[ref_default.group(1)]
            out.append('default=' + json.dumps(json.loads(value)))
        enum = re.search(r'!(\S+)$', text)
        if enum: out.append('enum=' + '|'.join(sorted(ENUMS[enum.group(1)])))
        return json_name or struct_field(text), expression, out

    def camel(self, snake, ref):
        rows = [r[0] for r in self.types[openapi_name(ref)][1]]
        wanted = snake.replace('_', '').rstrip('_').lower()
        for r in rows:
            if r.lower() == wanted: return r
        return snake

    def write(self, directory):
        lines, described = [], []
        by_package = {}
        for name in self.types:
            package, short = name.rsplit('.', 1)
            by_package.setdefault(package, []).append(short)
        list_kinds = {}
        for name, t in self.openapi.types.items():
            if t['listable'] and t['gvk']:
                list_kinds[name.rsplit('.', 1)[0] + '.' + t['listable']] = (*t['gvk'][:2], t['listable'])
        for package in sorted(by_package):
            lines.append(f'package {package}')
            for short in sorted(by_package[package]):
                name = f'{package}.{short}'
                go_name, rows = self.types[name]
                go_package = go_name.rsplit('.', 1)[0]
                api = self.openapi.types.get(name)
                head = f'{"part" if name in self.parts else "type"} {short}'
                gvk = (api and api['gvk']) or list_kinds.get(name)
                if package.endswith('.metrics.v1beta1') and not short.startswith('Container'): gvk = ('metrics.k8s.io', 'v1beta1', short)
                if gvk: head += ' kind=' + '/'.join(gvk)
                docs = self.protos.messages.get((go_package, short.lower()), [])
                st = (markers(docs).get('structType') or markers(docs).get('mapType') or [''])[0]
                if st == 'atomic': head += ' map=atomic'
                lines.append(head)
                description = api['description'] if api else prose(docs)
                described.append((name, '', description))
                rendered = []
                for row in rows:
                    if row[2] and row[3].endswith('.TypeMeta'):
                        rendered += [('apiVersion', 'string', ['-', 'omitempty']), ('kind', 'string', ['-', 'omitempty'])]
                    else:
                        rendered.append(self.row(name, go_name, row))
                for field, expression, rest in sorted(rendered):
                    short_expression = expression.replace(f'@{package}.', '@') if f'@{package}.' in expression and '.' not in expression.split(f'@{package}.')[1] else expression
                    lines.append(f'  {field} {short_expression} ' + ' '.join(rest))
                    if 'inline' in rest: continue
                    text = api['properties'].get(field, '') if api else ''
                    if not api:
                        number = next((r[4] for r in rows if r[0] == field), 0)
                        text = prose(self.protos.fields.get((go_package, short.lower(), number), ([], ''))[0]) if number else ''
                        if field in ('apiVersion', 'kind'):
                            text = self.openapi.types['io.k8s.api.core.v1.Pod']['properties'][field]
                    described.append((name, field, text))
                if api:
                    # Inlined fields are described where they are inlined.
                    own = {r[0] for r in rendered}
                    for field, text in sorted(api['properties'].items()):
                        if field not in own: described.append((name, field, text))
                    mine, theirs = set(self.properties(name)), set(api['properties'])
                    if mine != theirs and theirs:
                        self.problems.append(f'{name}: here only {sorted(mine - theirs)}, crate only {sorted(theirs - mine)}')
        for name, t in sorted(self.openapi.types.items()):
            if name in {openapi_name(s) for s in SPECIAL} or name.endswith('.Patch'):
                described.append((name, '', t['description']))
        header = ['# Generated by tools/generate_schemas.py: every built-in type, its properties, and what each is in JSON and protobuf.',
                  '# type NAME [kind=group/version/kind] [map=atomic], then its fields: JSON name, type, protobuf number (- for none), flags.',
                  '# A part is a type that is only ever inlined: its fields are the parent\'s in JSON, a message of its own in protobuf.']
        with open(os.path.join(directory, 'types.txt'), 'w') as f:
            f.write('\n'.join(header + lines) + '\n')
        text = []
        last = None
        for name, field, description in described:
            if not description: continue
            if name != last: text.append('=' + name); last = name
            text.append(f'{field}\t{json.dumps(description, ensure_ascii=False)[1:-1]}')
        raw = ('\n'.join(text) + '\n').encode()
        with open(os.path.join(directory, 'descriptions.txt.gz'), 'wb') as f:
            f.write(gzip.compress(raw, 9, mtime=0))
        print(len(self.types), 'types,', len(lines), 'lines,', len(raw), 'bytes of descriptions', file=sys.stderr)

def struct_field(text):
    name = text.rsplit('.', 1)[1]
    return name[0].lower() + name[1:]

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for a in ('--kubectl', '--helm', '--k8s-openapi', '--k8s-pb'): p.add_argument(a, required=True)
    g = Generator(p.parse_args())
    g.run()
    g.write(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'data'))
    for problem in g.problems: print('note:', problem, file=sys.stderr)
