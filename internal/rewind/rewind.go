// Package rewind takes everything that can be reached from some pointers back to how it was, in place: a driver that tries
// many ways on from one state of a simulation need not make that state again.
//
// A [Graph] follows pointers, slices, maps and interfaces, through unexported fields too. A [Point] holds a copy of what
// it found. Restoring writes the copies back to where they came from, so that every pointer into the graph stays good;
// what was reached only later is garbage. Functions and channels are left alone, strings and values in interfaces are
// taken for immutable, and of a slice only its length counts: what lies behind it must not be read.
//
// Large memories without pointers (here called flats) are not copied whole: [Graph.Learn] notes which of their pieces
// have changed since they were reached first, and only those are copied. A piece that changed and is not known stays as it is
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
	flats []*flat       // those that were reached when the graph was made, by address; then those that were reached later
	kinds map[int][]int // pieces that were learned, by size of flats
	free  []*Point
}

// object is n values of one type, one behind the other.
type object struct {
	at   unsafe.Pointer
	plan *plan
	n    int
}

// flat is a large memory, and what was in it when it was reached first.
type flat struct {
	now, then []byte
	changes   []int  // pieces that are known to change, in the order in which that was learned
	sorted    []int  // the same
	known     []bool // the same, by piece
}

func newFlat(b []byte) *flat {
	return &flat{now: b, then: bytes.Clone(b), known: make([]bool, (len(b)+piece-1)/piece)}
}

// piece is the i-th of a flat's, or of a copy's.
func pieceOf(b []byte, i int) []byte { return b[i*piece : min((i+1)*piece, len(b))] }

// Point is a state of the graph.
type Point struct {
	items []item
	used  int
	maps  []savedMap
	flats []savedFlat
}

type savedFlat struct {
	f      *flat
	pieces []byte // those that were known, one behind the other, each in the room of a whole one
	count  int
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
	g := &Graph{skip: skip, plans: map[reflect.Type]*plan{}, kinds: map[int][]int{}}
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
	for i, f := range kept {
		kept[i] = newFlat(f.now)
	}
	g.flats = kept
	return g
}

func (f *flat) start() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(f.now))) }
func (f *flat) end() uintptr   { return f.start() + uintptr(len(f.now)) }

// adopt makes a memory that was reached only now a flat. Those of its size are of its kind, and change in the same places.
func (g *Graph) adopt(b []byte) {
	if g.flat(b) != nil {
		return
	}
	fresh := newFlat(b)
	for _, i := range g.kinds[len(b)] {
		fresh.learn(i)
	}
	g.flats = append(g.flats, fresh)
}

func (f *flat) learn(i int) {
	if !f.known[i] {
		f.known[i] = true
		f.changes = append(f.changes, i)
		at, _ := slices.BinarySearch(f.sorted, i)
		f.sorted = slices.Insert(f.sorted, at, i)
	}
}

// Learn looks for pieces of flats that have changed since they were reached, and says how many it did not know.
func (g *Graph) Learn() (fresh int) {
	for _, f := range g.flats {
		if bytes.Equal(f.now, f.then) {
			continue
		}
		for i := range f.known {
			if !f.known[i] && !bytes.Equal(pieceOf(f.now, i), pieceOf(f.then, i)) {
				fresh++
				f.learn(i)
				g.kinds[len(f.now)] = append(g.kinds[len(f.now)], i)
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
	g.walk(p, g.adopt)
	for i := p.used; i < len(p.items); i++ {
		p.items[i] = item{} // of an earlier use
	}
	p.items = p.items[:p.used]
	for len(p.flats) < len(g.flats) {
		p.flats = append(p.flats, savedFlat{})
	}
	p.flats = p.flats[:len(g.flats)]
	for i, f := range g.flats {
		p.flats[i].save(f)
	}
	return p
}

func (s *savedFlat) save(f *flat) {
	s.f, s.count, s.pieces = f, len(f.changes), s.pieces[:0]
	for _, i := range f.changes {
		var room [piece]byte
		copy(room[:], pieceOf(f.now, i))
		s.pieces = append(s.pieces, room[:]...)
	}
}

func (s *savedFlat) restore() {
	for n, i := range s.f.changes {
		if n < s.count {
			copy(pieceOf(s.f.now, i), s.pieces[n*piece:])
		} else {
			copy(pieceOf(s.f.now, i), pieceOf(s.f.then, i)) // it had not changed yet
		}
	}
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
	g.flats = g.flats[:0]
	for i := range p.flats {
		p.flats[i].restore()
		g.flats = append(g.flats, p.flats[i].f) // what was reached later is not reached any more
	}
}

// Changed appends to dst those pieces of b, a flat or a part of one, that are not what they were when the graph was made, each
// behind its offset. False: b is no flat.
func (g *Graph) Changed(dst, b []byte) ([]byte, bool) {
	f := g.flat(b)
	if f == nil {
		return dst, false
	}
	from := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) - f.start())
	for _, i := range f.sorted {
		if now := pieceOf(f.now, i); i*piece >= from && i*piece < from+len(b) && !bytes.Equal(now, pieceOf(f.then, i)) {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(i*piece-from))
			dst = append(dst, now...)
		}
	}
	return dst, true
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
