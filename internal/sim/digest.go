package sim

import (
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"whale/fabric/simfab"
	"whale/internal/command"
	"whale/internal/plog"
	"whale/internal/shard"
	"whale/pmem"
)

// digest is a hash of the state of everything that decides about what a run can still do: two runs with equal digests have
// equal futures. It walks the engines' own structures, so that a new field is part of it by itself.
type digest struct {
	b      []byte // what is hashed
	seen   map[seenAt]uint64
	shapes map[reflect.Type]*shape
	// changed appends those parts of a memory that are not what they were at the beginning. False: they are not known, and
	// all of it is hashed.
	changed func(dst, b []byte) ([]byte, bool)
}

type seenAt struct {
	at unsafe.Pointer
	s  *shape
}

var digestSeed = maphash.MakeSeed()

// apart are types whose state is hashed elsewhere, or decides about nothing: what is a function of the log, statistics,
// things that never change.
var apart = map[reflect.Type]bool{
	reflect.TypeFor[simfab.Endpoint](): true,
	reflect.TypeFor[simfab.Network]():  true,
	reflect.TypeFor[pmem.Simulated]():  true,
	reflect.TypeFor[pmem.HeapMemory](): true,
	reflect.TypeFor[memory]():          true,
	reflect.TypeFor[run]():             true,
	reflect.TypeFor[member]():          true,
	reflect.TypeFor[client]():          true,
	reflect.TypeFor[op]():              true,
	reflect.TypeFor[command.Command](): true,
	reflect.TypeFor[command.Ctx]():     true,
	reflect.TypeFor[shard.Counters]():  true,
	reflect.TypeFor[plog.Superblock](): true,
	reflect.TypeFor[command.Client]():  true,
	reflect.TypeFor[shard.Config]():    true,
}

// apartByName are such types that other packages do not show.
var apartByName = map[string]bool{
	"shard.past": true, "store.index": true, "store.pending": true, "store.Tx": true, "store.hooks": true, "shard.readView": true,
	"sync.Mutex": true, "simfab.conn": true,
	"store.purges": true, // what left the index: EXEC alone asks for it
}

// scratch are fields of the engine that carry nothing from one step to the next.
var scratch = map[string]bool{
	"polled": true, "taken": true, "ahead": true, "spare": true, "out": true, "ops": true, "recs": true, "mine": true,
	"hashes": true, "pool": true, "arena": true,
}

// shape is what counts of the values of a type, in order. A number of bytes that stand together are one part.
type shape struct {
	t     reflect.Type
	parts []shapePart
	raw   bool // the parts are all its bytes, in one
}

type shapePart struct {
	off  uintptr
	kind reflect.Kind // Uint8: bytes; Struct: one that is treated in its own way
	n    uintptr      // bytes
	elem *shape       // Pointer, Slice
	t    reflect.Type // Interface, Map
	own  func(d *digest, at unsafe.Pointer)
}

func (d *digest) shape(t reflect.Type) *shape {
	if s := d.shapes[t]; s != nil {
		return s
	}
	if d.shapes == nil {
		d.shapes = map[reflect.Type]*shape{}
	}
	s := &shape{t: t}
	d.shapes[t] = s
	d.add(s, t, 0)
	s.raw = len(s.parts) == 1 && s.parts[0].kind == reflect.Uint8 && s.parts[0].n == t.Size()
	return s
}

func (d *digest) add(s *shape, t reflect.Type, off uintptr) {
	part := shapePart{off: off, kind: t.Kind(), t: t}
	switch t.Kind() {
	case reflect.Pointer:
		if t == reflect.TypeFor[*shard.Request]() {
			part.kind, part.own = reflect.Struct, d.request()
			break
		}
		part.elem = d.shape(t.Elem())
	case reflect.Slice:
		part.elem = d.shape(t.Elem())
	case reflect.String, reflect.Interface, reflect.Map:
	case reflect.Array:
		for i := range t.Len() {
			d.add(s, t.Elem(), off+uintptr(i)*t.Elem().Size())
		}
		return
	case reflect.Struct:
		if apart[t] || apartByName[t.String()] {
			return
		}
		if strings.HasPrefix(t.String(), "shard.queue[") {
			part.own = d.queue(t)
			break
		}
		for i := range t.NumField() {
			if f := t.Field(i); !scratch[f.Name] {
				d.add(s, f.Type, off+f.Offset)
			}
		}
		return
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return
	default: // a number
		if n := len(s.parts); n > 0 && s.parts[n-1].kind == reflect.Uint8 && s.parts[n-1].off+s.parts[n-1].n == off {
			s.parts[n-1].n += t.Size()
			return
		}
		part.kind, part.n = reflect.Uint8, t.Size()
	}
	s.parts = append(s.parts, part)
}

// request: requests are part of operations, which are counted. Which one it is tells its client.
func (d *digest) request() func(*digest, unsafe.Pointer) {
	t := reflect.TypeFor[shard.Request]()
	type part struct {
		off uintptr
		s   *shape
	}
	var parts []part
	for _, path := range [][]string{{"Args"}, {"Behind"}, {"seq"}, {"gate"}, {"deadline"}, {"from", "member"}, {"from", "id"}} {
		at, off := t, uintptr(0)
		for _, name := range path {
			f, ok := at.FieldByName(name)
			if !ok {
				panic("sim: a request has no field " + name + " any more")
			}
			at, off = f.Type, off+f.Offset
		}
		parts = append(parts, part{off, d.shape(at)})
	}
	return func(d *digest, at unsafe.Pointer) {
		r := *(**shard.Request)(at)
		if r == nil {
			d.number(0)
			return
		}
		d.number(1)
		if r.Client != nil {
			d.number(r.Client.ID)
		}
		for _, p := range parts {
			d.walk(p.s, unsafe.Add(unsafe.Pointer(r), p.off))
		}
	}
}

// queue: where its ring begins does not matter.
func (d *digest) queue(t reflect.Type) func(*digest, unsafe.Pointer) {
	buf, ok1 := t.FieldByName("buf")
	head, ok2 := t.FieldByName("head")
	count, ok3 := t.FieldByName("n")
	if !ok1 || !ok2 || !ok3 || t.NumField() != 3 {
		panic("sim: " + t.String() + " has other fields than it had")
	}
	elem := d.shape(buf.Type.Elem())
	size := buf.Type.Elem().Size()
	return func(d *digest, at unsafe.Pointer) {
		ring := *(*[]byte)(unsafe.Add(at, buf.Offset)) // its length counts elements
		first, n := *(*int)(unsafe.Add(at, head.Offset)), *(*int)(unsafe.Add(at, count.Offset))
		d.number(uint64(n))
		for i := range n {
			d.walk(elem, unsafe.Add(unsafe.Pointer(unsafe.SliceData(ring)), uintptr((first+i)&(len(ring)-1))*size))
		}
	}
}

func (d *digest) number(v uint64) { d.b = le.AppendUint64(d.b, v) }

func (d *digest) walk(s *shape, at unsafe.Pointer) {
	for i := range s.parts {
		p := &s.parts[i]
		at := unsafe.Add(at, p.off)
		switch p.kind {
		case reflect.Uint8:
			d.b = append(d.b, unsafe.Slice((*byte)(at), p.n)...)
		case reflect.Pointer:
			d.pointed(p.elem, *(*unsafe.Pointer)(at))
		case reflect.Struct:
			p.own(d, at)
		case reflect.Slice:
			d.slice(p.elem, *(*[]byte)(at))
		case reflect.String:
			text := *(*string)(at)
			d.number(uint64(len(text)))
			d.b = append(d.b, text...)
		case reflect.Interface:
			if *(*uintptr)(at) == 0 {
				d.number(0)
				continue
			}
			v := reflect.NewAt(p.t, at).Elem().Elem()
			d.b = append(d.b, v.Type().String()...)
			if v.Kind() == reflect.Pointer {
				d.pointed(d.shape(v.Type().Elem()), v.UnsafePointer())
			} else if s := d.shape(v.Type()); len(s.parts) > 0 {
				c := reflect.New(v.Type())
				c.Elem().Set(v)
				d.walk(s, c.UnsafePointer())
			}
		case reflect.Map:
			d.mapped(reflect.NewAt(p.t, at).Elem())
		}
	}
}

// slice: b is where the elements are, and its length counts them, whatever they are.
func (d *digest) slice(elem *shape, b []byte) {
	d.number(uint64(len(b)))
	at, size := unsafe.Pointer(unsafe.SliceData(b)), elem.t.Size()
	if elem.raw {
		d.b = append(d.b, unsafe.Slice((*byte)(at), uintptr(len(b))*size)...)
		return
	}
	for i := range len(b) {
		d.walk(elem, unsafe.Add(at, uintptr(i)*size))
	}
}

// mapped: a map whose keys are numbers.
func (d *digest) mapped(m reflect.Value) {
	d.number(uint64(m.Len()))
	if m.Len() == 0 {
		return
	}
	keys := m.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return int(int64(a.Uint()) - int64(b.Uint())) })
	for _, k := range keys {
		d.number(k.Uint())
		v := reflect.New(m.Type().Elem())
		v.Elem().Set(m.MapIndex(k))
		d.walk(d.shape(v.Type().Elem()), v.UnsafePointer())
	}
}

func (d *digest) pointed(s *shape, at unsafe.Pointer) {
	if at == nil {
		d.number(0)
		return
	}
	if len(s.parts) == 0 {
		return
	}
	n, known := d.seen[seenAt{at, s}]
	if known {
		d.number(n)
		return
	}
	n = uint64(len(d.seen)) + 1
	d.seen[seenAt{at, s}] = n
	d.number(n)
	d.walk(s, at)
}

// memory appends what a member's memory holds, and what of it is durable.
func (d *digest) memory(m *member, used uint64) {
	for _, b := range [...][]byte{m.mem.Bytes(), m.mem.Image()} {
		var known bool
		if d.b, known = d.changed(d.b, b); !known {
			d.b = append(d.b, b[superblocks:min(used, uint64(len(b)))]...)
		}
	}
}

// of is the digest of a world in which anything may happen.
func (d *digest) of(w *world) uint64 { return d.sum(w, false, nil) }

// crashed is that of a world in which nothing more is asked, and every member is going to look.
func (d *digest) crashed(w *world) uint64 { return d.sum(w, true, nil) }

// without is that of a world in which a member's process is going to end next.
func (d *digest) without(w *world, m *member) uint64 { return d.sum(w, true, m) }

func (d *digest) sum(w *world, crashed bool, without *member) uint64 {
	r := w.r
	if d.seen == nil {
		d.seen = map[seenAt]uint64{}
	}
	clear(d.seen)
	d.b = d.b[:0]
	if w.fell {
		d.b = append(d.b, 2)
	}
	for _, n := range w.news {
		if n && !crashed {
			d.b = append(d.b, 1)
		} else {
			d.b = append(d.b, 0)
		}
	}
	engine := d.shape(reflect.TypeFor[shard.Engine]())
	used := r.check.f.arena() + r.check.tail + 4096
	for _, m := range r.members {
		d.number(uint64(m.id))
		d.memory(m, used)
		if m.eng == nil {
			continue
		}
		if m != without {
			d.number(m.st.Drained())
			d.number(m.st.Installed())
		}
		if m.ep.Rung() && !crashed {
			d.number(1)
		}
		if m == without {
			d.number(2)
		} else {
			d.pointed(engine, unsafe.Pointer(m.eng))
		}
		for _, o := range r.members {
			if w := r.way(m, o); w.conn != nil {
				d.b = r.net.AppendState(d.b, w.conn)
			}
		}
	}
	for i, o := range w.ops {
		if !w.begun(i) || crashed {
			continue
		}
		d.number(uint64(i))
		if w.scope.whole {
			d.number(o.before)
			d.b = append(append(d.b, byte(o.fate)), fmt.Sprint(o.replies)...)
		}
	}
	d.b = w.seen.append(d.b) // what clients have seen decides about what they may see
	return maphash.Bytes(digestSeed, d.b)
}
