package rewind

import (
	"reflect"
	"unsafe"
)

// plan is how values of a type are followed.
type plan struct {
	t     reflect.Type
	size  uintptr
	hold  []field // where something hangs on it
	plain bool    // there is no pointer in it
	some  bool    // parts of it are saved, not all
	parts []span
}

type field struct {
	off  uintptr
	kind reflect.Kind // Pointer, Slice, Interface, Map; Array: a flat
	t    reflect.Type
	elem *plan // Pointer, Slice, Array
}

// span is a part of a struct that is saved by itself, because another one is skipped.
type span struct {
	off  uintptr
	plan *plan
}

func (g *Graph) plan(t reflect.Type) *plan {
	if p := g.plans[t]; p != nil {
		return p
	}
	p := &plan{t: t, size: t.Size(), plain: plain(t)}
	g.plans[t] = p
	if !p.plain || t.Kind() == reflect.Struct {
		g.fields(p, t, 0)
	}
	if t.Kind() == reflect.Struct && g.divided(t) {
		p.some = true
		for i := range t.NumField() {
			if f := t.Field(i); !g.skips(t, f) && !isFlat(f.Type) {
				p.parts = append(p.parts, span{f.Offset, g.plan(f.Type)})
			}
		}
	}
	return p
}

func (g *Graph) skips(owner reflect.Type, f reflect.StructField) bool {
	return g.skip != nil && g.skip(owner, f.Name)
}

// isFlat: arrays in structs can be flats, too.
func isFlat(t reflect.Type) bool {
	return t.Kind() == reflect.Array && t.Size() >= flatSize && plain(t)
}

// divided says whether some of a struct is skipped, or a flat, however deep.
func (g *Graph) divided(t reflect.Type) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		if g.skips(t, f) || isFlat(f.Type) || f.Type.Kind() == reflect.Struct && g.divided(f.Type) {
			return true
		}
	}
	return false
}

func (g *Graph) fields(p *plan, t reflect.Type, off uintptr) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		p.hold = append(p.hold, field{off, t.Kind(), t, g.plan(t.Elem())})
	case reflect.Map, reflect.Interface:
		p.hold = append(p.hold, field{off, t.Kind(), t, nil})
	case reflect.Array:
		if isFlat(t) {
			p.hold = append(p.hold, field{off, t.Kind(), t, g.plan(t.Elem())})
			return
		}
		if plain(t) {
			return
		}
		for i := range t.Len() {
			g.fields(p, t.Elem(), off+uintptr(i)*t.Elem().Size())
		}
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); !g.skips(t, f) {
				g.fields(p, f.Type, off+f.Offset)
			}
		}
	}
}

func plain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.String, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return false
	case reflect.Array:
		return t.Len() == 0 || plain(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !plain(t.Field(i).Type) {
				return false
			}
		}
	}
	return true
}

// walk saves all that is reached in p, but for flats, which it gives to large.
func (g *Graph) walk(p *Point, large func([]byte)) {
	g.seen.clear()
	for _, r := range g.roots {
		g.reach(p, r, large)
	}
}

func (g *Graph) reach(p *Point, o object, large func([]byte)) {
	if o.at == nil || o.n == 0 || o.plan.size == 0 {
		return
	}
	if o.plan.plain && uintptr(o.n)*o.plan.size >= flatSize {
		b := unsafe.Slice((*byte)(o.at), uintptr(o.n)*o.plan.size)
		large(b)
		return
	}
	if !g.seen.enter(o) {
		return
	}
	if !o.plan.some {
		p.save(o)
	} else {
		for i := range o.n {
			for _, s := range o.plan.parts {
				g.savePart(p, unsafe.Add(o.at, uintptr(i)*o.plan.size+s.off), s.plan)
			}
		}
	}
	for i := range o.n {
		at := unsafe.Add(o.at, uintptr(i)*o.plan.size)
		for k := range o.plan.hold {
			g.follow(p, &o.plan.hold[k], unsafe.Add(at, o.plan.hold[k].off), large)
		}
	}
}

// savePart saves a field, or, where some of it is skipped too, its parts.
func (g *Graph) savePart(p *Point, at unsafe.Pointer, pl *plan) {
	if !pl.some {
		if pl.size > 0 {
			p.save(object{at, pl, 1})
		}
		return
	}
	for _, s := range pl.parts {
		g.savePart(p, unsafe.Add(at, s.off), s.plan)
	}
}

func (g *Graph) follow(p *Point, f *field, at unsafe.Pointer, large func([]byte)) {
	switch f.kind {
	case reflect.Pointer:
		g.reach(p, object{*(*unsafe.Pointer)(at), f.elem, 1}, large)
	case reflect.Slice:
		s := (*[]byte)(at) // of any slice: where and how long
		g.reach(p, object{unsafe.Pointer(unsafe.SliceData(*s)), f.elem, len(*s)}, large)
	case reflect.Array:
		g.reach(p, object{at, f.elem, f.t.Len()}, large)
	case reflect.Interface:
		if *(*uintptr)(at) == 0 {
			return // nil
		}
		g.followInterface(p, reflect.NewAt(f.t, at).Elem().Elem(), large)
	case reflect.Map:
		g.followMap(p, reflect.NewAt(f.t, at).Elem(), large)
	}
}

// followInterface: what is in an interface never changes, but a pointer in it leads on.
func (g *Graph) followInterface(p *Point, v reflect.Value, large func([]byte)) {
	if !v.IsValid() {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		g.reach(p, object{v.UnsafePointer(), g.plan(v.Type().Elem()), 1}, large)
	case reflect.Struct:
		pl := g.plan(v.Type())
		if pl.plain {
			return
		}
		c := reflect.New(v.Type())
		c.Elem().Set(v)
		for k := range pl.hold {
			g.follow(p, &pl.hold[k], unsafe.Add(c.UnsafePointer(), pl.hold[k].off), large)
		}
	}
}

func (g *Graph) followMap(p *Point, m reflect.Value, large func([]byte)) {
	if m.IsNil() {
		return
	}
	if !g.seen.enter(object{m.UnsafePointer(), nil, 1}) {
		return
	}
	s := savedMap{m: m}
	// The map itself, not the variable that holds it, is what is restored.
	own := reflect.New(m.Type()).Elem()
	own.Set(m)
	s.m = own
	if n := m.Len(); n > 0 {
		s.keys = reflect.MakeSlice(reflect.SliceOf(m.Type().Key()), n, n)
		s.values = reflect.MakeSlice(reflect.SliceOf(m.Type().Elem()), n, n)
		i := 0
		for it := m.MapRange(); it.Next(); i++ {
			s.keys.Index(i).SetIterKey(it)
			s.values.Index(i).SetIterValue(it)
		}
		for _, part := range [...]reflect.Value{s.keys, s.values} {
			pl := g.plan(part.Type().Elem())
			for i := range n {
				for k := range pl.hold {
					g.follow(p, &pl.hold[k], unsafe.Add(part.UnsafePointer(), uintptr(i)*pl.size+pl.hold[k].off), large)
				}
			}
		}
	}
	p.maps = append(p.maps, s)
}

// flat is the one that b lies in; nil: none.
func (g *Graph) flat(b []byte) *flat {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	for _, f := range g.flats {
		if at >= f.start() && at+uintptr(len(b)) <= f.end() {
			return f
		}
	}
	return nil
}

// save copies an object, into the room that the point had for it the last time, if it can.
func (p *Point) save(o object) {
	if p.used == len(p.items) {
		if p.used < cap(p.items) {
			p.items = p.items[:p.used+1]
		} else {
			p.items = append(p.items, item{})
		}
	}
	it := &p.items[p.used]
	p.used++
	if it.plan != o.plan || it.n != o.n || it.at != o.at {
		fits := it.plan == o.plan && it.room >= o.n
		it.object = o
		if !fits {
			it.mine = reflect.MakeSlice(reflect.SliceOf(o.plan.t), o.n, o.n).UnsafePointer()
			it.room = o.n
		}
		if o.plan.plain {
			it.bytes = unsafe.Slice((*byte)(it.mine), uintptr(o.n)*o.plan.size)
			it.here, it.there = reflect.Value{}, reflect.Value{}
		} else {
			it.bytes = nil
			it.here = reflect.SliceAt(o.plan.t, it.mine, o.n)
			it.there = reflect.SliceAt(o.plan.t, o.at, o.n)
		}
	}
	if it.bytes != nil {
		copy(it.bytes, unsafe.Slice((*byte)(o.at), len(it.bytes)))
	} else {
		reflect.Copy(it.here, it.there)
	}
}

// visited remembers, of each object, the greatest length that was saved: a hash table that is emptied by counting rounds.
type visited struct {
	slots []slot // a power of two
	used  int
	round uint32
}

type slot struct {
	at    unsafe.Pointer
	plan  *plan
	n     int
	round uint32
}

func (v *visited) clear() {
	v.round++
	v.used = 0
	if v.slots == nil {
		v.slots = make([]slot, 1024)
	}
}

func (v *visited) find(at unsafe.Pointer, p *plan) *slot {
	h := (uint64(uintptr(at)) ^ uint64(uintptr(unsafe.Pointer(p)))>>3) * 0x9E3779B97F4A7C15
	for i := h >> 20; ; i++ {
		s := &v.slots[i&uint64(len(v.slots)-1)]
		if s.round != v.round || s.at == at && s.plan == p {
			return s
		}
	}
}

// enter says whether the object, or more of it, is new.
func (v *visited) enter(o object) bool {
	if 2*v.used >= len(v.slots) {
		old := v.slots
		v.slots = make([]slot, 2*len(old))
		for _, s := range old {
			if s.round == v.round {
				*v.find(s.at, s.plan) = s
			}
		}
	}
	s := v.find(o.at, o.plan)
	if s.round != v.round {
		v.used++
	} else if s.n >= o.n {
		return false
	}
	*s = slot{o.at, o.plan, o.n, v.round}
	return true
}
