package sim

import (
	"hash/maphash"
	"reflect"
	"slices"
	"sync"

	"whale/fabric/simfab"
	"whale/internal/command"
	"whale/internal/plog"
	"whale/internal/shard"
	"whale/pmem"
)

// digest is a hash of the state of everything that decides about what a run can still do: two runs with equal digests have
// equal futures. It walks the engines' own structures, so that a new field is part of it by itself.
type digest struct {
	b    []byte // what is hashed
	seen map[uintptr]uint64
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
var apartByName = map[string]bool{"shard.past": true, "store.index": true, "store.pending": true, "store.Tx": true, "store.hooks": true, "shard.readView": true, "sync.Mutex": true, "simfab.conn": true}

// scratch are fields of the engine that carry nothing from one step to the next.
var scratch = map[string]bool{"polled": true, "taken": true, "ahead": true, "spare": true, "out": true, "ops": true, "recs": true, "mine": true, "hashes": true, "pool": true, "arena": true}

func (d *digest) number(v uint64) { d.b = le.AppendUint64(d.b, v) }

// fields are the fields of a struct that count, found once.
var fields sync.Map // of reflect.Type to []int

func fieldsOf(t reflect.Type) []int {
	if known, ok := fields.Load(t); ok {
		return known.([]int)
	}
	count := []int{}
	if !apart[t] && !apartByName[t.String()] {
		for i := range t.NumField() {
			if !scratch[t.Field(i).Name] {
				count = append(count, i)
			}
		}
	}
	fields.Store(t, count)
	return count
}

func (d *digest) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			d.number(1)
		} else {
			d.number(2)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		d.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		d.number(v.Uint())
	case reflect.String:
		d.number(uint64(v.Len()))
		d.b = append(d.b, v.String()...)
	case reflect.Pointer, reflect.Interface:
		d.pointed(v)
	case reflect.Struct:
		for _, i := range fieldsOf(v.Type()) {
			d.walk(v.Field(i))
		}
	case reflect.Slice:
		d.number(uint64(v.Len()))
		if v.Len() > 0 && v.Type().Elem().Kind() == reflect.Uint8 {
			d.b = append(d.b, v.Bytes()...)
			return
		}
		for i := range v.Len() {
			d.walk(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			d.walk(v.Index(i))
		}
	case reflect.Map:
		d.number(uint64(v.Len()))
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return int(int64(a.Uint()) - int64(b.Uint())) })
		for _, k := range keys {
			d.walk(k)
			d.walk(v.MapIndex(k))
		}
	}
}

func (d *digest) pointed(v reflect.Value) {
	if v.IsNil() {
		d.number(0)
		return
	}
	if v.Kind() == reflect.Interface {
		d.walk(v.Elem())
		return
	}
	if v.Type() == reflect.TypeFor[*shard.Request]() {
		// Requests are part of operations, which are counted; which one it is tells its text.
		for _, f := range []string{"Args", "Behind", "seq", "gate", "deadline", "from"} {
			if f == "from" {
				d.walk(v.Elem().FieldByName("from").FieldByName("member"))
				d.walk(v.Elem().FieldByName("from").FieldByName("id"))
				continue
			}
			d.walk(v.Elem().FieldByName(f))
		}
		return
	}
	n, known := d.seen[v.Pointer()]
	if known {
		d.number(n)
		return
	}
	n = uint64(len(d.seen)) + 1
	d.seen[v.Pointer()] = n
	d.number(n)
	d.walk(v.Elem())
}

// of is the digest of a run.
func (d *digest) of(r *run, news [3]bool) uint64 {
	if d.seen == nil {
		d.seen = map[uintptr]uint64{}
	}
	clear(d.seen)
	d.b = d.b[:0]
	for _, n := range news {
		d.walk(reflect.ValueOf(n))
	}
	used := r.check.f.arena() + r.check.tail + 4096
	for _, m := range r.members {
		d.number(uint64(m.id))
		if m.eng == nil {
			continue
		}
		b, image := m.mem.Bytes(), m.mem.Image()
		d.b = append(d.b, b[superblocks:min(used, uint64(len(b)))]...)
		d.b = append(d.b, image[superblocks:min(used, uint64(len(b)))]...)
		d.number(m.st.Drained())
		d.number(m.st.Installed())
		if m.ep.Rung() {
			d.number(1)
		}
		d.walk(reflect.ValueOf(m.eng))
		for _, o := range r.members {
			if w := r.way(m, o); w.conn != nil {
				d.b = r.net.AppendState(d.b, w.conn)
			}
		}
	}
	// What clients have seen decides about what they may see.
	for _, g := range r.groups {
		for _, o := range g.history {
			d.number(uint64(o.fate))
			d.number(o.before)
			for _, reply := range o.replies {
				d.b = append(d.b, reply...)
			}
		}
	}
	return maphash.Bytes(digestSeed, d.b)
}
