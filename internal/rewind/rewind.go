// Package rewind takes everything that can be reached from some pointers back to how it was, in place: a driver that tries
// many ways on from one state of a simulation need not make that state again.
//
// A [Graph] follows pointers, slices, maps and interfaces, through unexported fields too. A [Point] holds a copy of what
// it found. Restoring writes the copies back to where they came from, so that every pointer into the graph stays good;
// what was reached only later is garbage. Functions and channels are left alone, strings and values in interfaces are
// taken for immutable, and of a slice only its length counts: what lies behind it must not be read.
//
// Large memories without pointers (here called flats) are not copied whole: [Graph.Learn] notes which of their pieces
// have changed since the graph was made, and only those are copied. A piece that changed and is not known stays as it is
// when a Point is restored, so [Graph.Learn] is called again now and then; if it finds something, what was done since it
// was called last has to be done again.
//
// A Graph, its Points and all that it reaches belong to one goroutine.
package rewind

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

const (
	flatSize = 16 << 10 // slices without pointers that are this large are flats
	piece    = 256      // bytes
)

// Graph is what can be reached. Make it with New.
type Graph struct {
	roots []object
	skip  func(owner reflect.Type, field string) bool
	plans map[reflect.Type]*plan
	seen  visited
	flats []*flat
	known []knownPiece
	free  []*Point
}

// object is n values of one type, one behind the other.
type object struct {
	at   unsafe.Pointer
	plan *plan
	n    int
}

// flat is a large memory, and what was in it when the graph was made.
type flat struct {
	now, then []byte
	known     []bool // by piece
}

type knownPiece struct{ now, then []byte }

// Point is a state of the graph.
type Point struct {
	items []item
	used  int
	maps  []savedMap
	flats [][]byte // contents of the known pieces
}

type item struct {
	object
	there, here reflect.Value // slices of the object, and of its copy
	bytes       []byte        // of the copy, when there is no pointer in it
	mine        unsafe.Pointer
	room        int
}

type savedMap struct {
	m            reflect.Value
	keys, values reflect.Value // slices; invalid: it was empty
}

// New makes the graph of what can be reached from the roots, which are pointers. skip names fields of structs that are left
// as they are; nil: none.
func New(skip func(owner reflect.Type, field string) bool, roots ...any) *Graph {
	g := &Graph{skip: skip, plans: map[reflect.Type]*plan{}}
	for _, r := range roots {
		v := reflect.ValueOf(r)
		if v.Kind() != reflect.Pointer || v.IsNil() {
			panic(fmt.Sprintf("rewind: a root is a pointer, not %T", r))
		}
		g.roots = append(g.roots, object{v.UnsafePointer(), g.plan(v.Type().Elem()), 1})
	}
	found := map[unsafe.Pointer][]byte{}
	g.walk(&Point{}, func(b []byte) {
		if at := unsafe.Pointer(unsafe.SliceData(b)); len(b) > len(found[at]) {
			found[at] = b
		}
	})
	for _, b := range found {
		g.flats = append(g.flats, &flat{now: b})
	}
	slices.SortFunc(g.flats, func(a, b *flat) int {
		if d := int(a.start() - b.start()); d != 0 {
			return d
		}
		return len(b.now) - len(a.now)
	})
	kept := g.flats[:0]
	for _, f := range g.flats { // one memory has several slices: the arena is a part of the whole
		if n := len(kept); n > 0 && f.start() < kept[n-1].end() {
			last := kept[n-1]
			last.now = unsafe.Slice(unsafe.SliceData(last.now), max(f.end(), last.end())-last.start())
			continue
		}
		kept = append(kept, f)
	}
	g.flats = kept
	for _, f := range g.flats {
		f.then = bytes.Clone(f.now)
		f.known = make([]bool, (len(f.now)+piece-1)/piece)
	}
	return g
}

func (f *flat) start() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(f.now))) }
func (f *flat) end() uintptr   { return f.start() + uintptr(len(f.now)) }

// Learn looks for pieces of flats that have changed since the graph was made and says how many it did not know.
func (g *Graph) Learn() (fresh int) {
	for _, f := range g.flats {
		if bytes.Equal(f.now, f.then) {
			continue
		}
		for i := range f.known {
			from, to := i*piece, min((i+1)*piece, len(f.now))
			if !f.known[i] && !bytes.Equal(f.now[from:to], f.then[from:to]) {
				f.known[i] = true
				g.known = append(g.known, knownPiece{f.now[from:to], f.then[from:to]})
				fresh++
			}
		}
	}
	return fresh
}

// Save copies the state.
func (g *Graph) Save() *Point {
	p := &Point{}
	if n := len(g.free); n > 0 {
		p, g.free = g.free[n-1], g.free[:n-1]
	}
	p.used, p.maps = 0, p.maps[:0]
	g.walk(p, nil)
	for i := p.used; i < len(p.items); i++ {
		p.items[i] = item{} // of an earlier use
	}
	p.items = p.items[:p.used]
	for i, k := range g.known {
		if i == len(p.flats) {
			p.flats = append(p.flats, make([]byte, len(k.now)))
		}
		copy(p.flats[i], k.now)
	}
	return p
}

// Restore takes the graph back. The point stays good.
func (g *Graph) Restore(p *Point) {
	for i := range p.items {
		it := &p.items[i]
		if it.bytes != nil {
			copy(unsafe.Slice((*byte)(it.at), len(it.bytes)), it.bytes)
		} else {
			reflect.Copy(it.there, it.here)
		}
	}
	for i := range p.maps {
		p.maps[i].restore()
	}
	for i, k := range g.known {
		if i < len(p.flats) {
			copy(k.now, p.flats[i])
		} else {
			copy(k.now, k.then) // it had not changed yet
		}
	}
}

// Changed appends to dst those pieces of b, a flat or a part of one, that are not what they were when the graph was made, each
// behind its offset. False: b is no flat.
func (g *Graph) Changed(dst, b []byte) ([]byte, bool) {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	for _, f := range g.flats {
		if at < f.start() || at >= f.end() {
			continue
		}
		for _, k := range g.known {
			from := uintptr(unsafe.Pointer(unsafe.SliceData(k.now)))
			if from >= at && from < at+uintptr(len(b)) && !bytes.Equal(k.now, k.then) {
				dst = binary.LittleEndian.AppendUint32(dst, uint32(from-at))
				dst = append(dst, k.now...)
			}
		}
		return dst, true
	}
	return dst, false
}

// Drop gives a point back for reuse.
func (g *Graph) Drop(p *Point) { g.free = append(g.free, p) }

func (s *savedMap) restore() {
	s.m.Clear()
	if s.keys.IsValid() {
		for i := range s.keys.Len() {
			s.m.SetMapIndex(s.keys.Index(i), s.values.Index(i))
		}
	}
}
