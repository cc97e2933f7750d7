package rewind

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// node has one of everything that is followed.
type node struct {
	id     int
	name   string
	next   *node
	any    any
	list   []*node
	values []value
	lookup map[string]*node
	counts map[int]int
	array  [2]*node
	apart  int // skipped
	inner  struct {
		bytes []byte
		apart *node // skipped
		after int
	}
	flat  [flatSize/8 + 3]uint64
	heap  []byte // a flat
	part  []byte // of heap
	stamp uint64
}

type value struct {
	n  int
	to *node
}

// picture is all that can be seen of a graph.
func picture(n *node) string {
	var b bytes.Buffer
	numbers := map[*node]int{}
	var draw func(n *node)
	draw = func(n *node) {
		if n == nil {
			fmt.Fprint(&b, "nil ")
			return
		}
		if at, known := numbers[n]; known {
			fmt.Fprint(&b, "#", at, " ")
			return
		}
		numbers[n] = len(numbers)
		fmt.Fprint(&b, n.id, n.name, n.values == nil, len(n.list), len(n.values), n.inner.bytes, n.inner.after, n.stamp, n.counts, len(n.lookup), " ")
		for i, v := range n.flat {
			if v != 0 {
				fmt.Fprint(&b, i, ":", v, " ")
			}
		}
		for i, v := range n.heap {
			if v != 0 {
				fmt.Fprint(&b, i, "=", v, " ")
			}
		}
		draw(n.next)
		for _, m := range n.list {
			draw(m)
		}
		for _, v := range n.values {
			fmt.Fprint(&b, v.n, " ")
			draw(v.to)
		}
		for _, m := range n.array {
			draw(m)
		}
		for i := range 4 {
			draw(n.lookup[fmt.Sprint(i)])
		}
		switch v := n.any.(type) {
		case *node:
			draw(v)
		case value:
			fmt.Fprint(&b, v.n)
			draw(v.to)
		default:
			fmt.Fprint(&b, v)
		}
	}
	draw(n)
	return b.String()
}

func newNode(id int) *node {
	n := &node{id: id, heap: make([]byte, 2*flatSize)}
	n.part = n.heap[flatSize:]
	return n
}

// change does something to one of the nodes.
func change(rng *rand.Rand, all *[]*node, flats []*node) {
	any := func() *node { return (*all)[rng.IntN(len(*all))] }
	n := any()
	switch rng.IntN(16) {
	case 0:
		n.next = any()
	case 1:
		n.list = append(n.list, any())
	case 2:
		if len(n.list) > 0 {
			n.list[rng.IntN(len(n.list))] = any()
			n.list = n.list[:len(n.list)-rng.IntN(2)]
		}
	case 3:
		n.values = append(n.values, value{rng.IntN(100), any()})
	case 4:
		for i := range n.values {
			n.values[i].n++
		}
	case 5:
		if n.lookup == nil {
			n.lookup = map[string]*node{}
		}
		n.lookup[fmt.Sprint(rng.IntN(4))] = any()
	case 6:
		clear(n.lookup)
	case 7:
		if n.counts == nil {
			n.counts = map[int]int{}
		}
		n.counts[rng.IntN(3)]++
	case 8:
		n.any = any()
	case 9:
		n.any = value{rng.IntN(100), any()}
	case 10:
		n.any = rng.IntN(100)
	case 11:
		n.inner.bytes = append(n.inner.bytes, byte(rng.IntN(256)))
		n.inner.after++
	case 12:
		n.array[rng.IntN(2)] = any()
	case 13:
		n.name, n.stamp = fmt.Sprint(rng.IntN(1000)), rng.Uint64()
		if len(n.inner.bytes) > 0 {
			n.inner.bytes[0]++
		}
	case 14:
		fresh := &node{id: len(*all), next: any()}
		*all = append(*all, fresh)
		n.next = fresh
	case 15:
		f := flats[rng.IntN(len(flats))]
		f.flat[8*rng.IntN(4)]++
		f.part[1000*rng.IntN(3)]++
		f.heap[7]++
	}
}

// Whatever is done to a graph, a point takes it back to how it was, again and again, and in any order of points.
func TestRestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		all := []*node{newNode(0), newNode(1), newNode(2)}
		flats := []*node{all[0], all[1], all[2]}
		root := struct{ a, b, c *node }{all[0], all[1], all[2]}
		g := New(nil, &root)
		for range 300 { // all pieces that ever change
			change(rng, &all, flats)
		}
		for _, f := range flats {
			f.flat[0], f.flat[8], f.flat[16], f.flat[24] = f.flat[0]+1, f.flat[8]+1, f.flat[16]+1, f.flat[24]+1
			f.part[0], f.part[1000], f.part[2000], f.heap[7] = 1, 1, 1, 1
		}
		g.Learn()
		type saved struct {
			point *Point
			seen  string
			all   []*node
		}
		var points []saved
		for range 60 {
			switch k := rng.IntN(4); {
			case k == 0:
				points = append(points, saved{g.Save(), picture(root.a) + picture(root.b) + picture(root.c), append([]*node{}, all...)})
			case k == 1 && len(points) > 0:
				i := rng.IntN(len(points))
				p := points[i]
				g.Restore(p.point)
				all = append([]*node{}, p.all...)
				if now := picture(root.a) + picture(root.b) + picture(root.c); now != p.seen {
					t.Fatalf("restored:\n%s\nwas:\n%s", now, p.seen)
				}
				if rng.IntN(2) == 0 {
					g.Drop(p.point)
					points = append(points[:i], points[i+1:]...)
				}
			default:
				change(rng, &all, flats)
			}
		}
		if n := g.Learn(); n > 0 {
			t.Fatalf("%d pieces changed that were not known", n)
		}
	})
}

// A piece of a flat that is not known is not taken back; Learn finds it, and from then on it is.
func TestLearn(t *testing.T) {
	n := newNode(1)
	g := New(nil, n)
	if len(g.flats) != 2 {
		t.Fatalf("%d flats, want the array and the slice", len(g.flats))
	}
	before := g.Save()
	n.heap[5000], n.flat[100] = 1, 1
	g.Restore(before)
	if n.heap[5000] == 0 {
		t.Error("who knew?")
	}
	if fresh := g.Learn(); fresh != 2 {
		t.Errorf("%d pieces are new, want 2", fresh)
	}
	if fresh := g.Learn(); fresh != 0 {
		t.Errorf("%d pieces are new again", fresh)
	}
	if b, ok := g.Changed(nil, n.part); !ok || len(b) != 0 {
		t.Errorf("%d bytes changed in the second half, want none", len(b))
	}
	if b, ok := g.Changed(nil, n.heap); !ok || len(b) != 4+piece {
		t.Errorf("%d bytes changed, want one piece and where it is", len(b))
	}
	after := g.Save()
	g.Restore(before) // made before the pieces were known
	if n.heap[5000] != 0 || n.flat[100] != 0 {
		t.Error("known pieces are not taken back")
	}
	if b, ok := g.Changed(nil, n.heap); !ok || len(b) != 0 {
		t.Errorf("%d bytes changed when all is as it was", len(b))
	}
	g.Restore(after)
	if n.heap[5000] != 1 || n.flat[100] != 1 {
		t.Error("nor brought again")
	}
	if _, ok := g.Changed(nil, make([]byte, flatSize)); ok {
		t.Error("a slice that the graph does not reach is no flat")
	}
}

func TestSkip(t *testing.T) {
	n := newNode(1)
	other := newNode(2)
	n.inner.apart = other
	g := New(func(owner reflect.Type, field string) bool { return field == "apart" }, n)
	p := g.Save()
	n.apart, n.inner.after, n.id, other.id = 7, 8, 9, 10
	g.Restore(p)
	if n.apart != 7 || n.inner.after != 0 || n.id != 1 || other.id != 10 {
		t.Errorf("%d %d %d %d", n.apart, n.inner.after, n.id, other.id)
	}
}

// The garbage collector runs while states come and go.
func TestGarbage(t *testing.T) {
	n := newNode(0)
	all := []*node{n}
	g := New(nil, n)
	rng := rand.New(rand.NewPCG(1, 1))
	base := g.Save()
	want := picture(n)
	for range 200 {
		for range 20 {
			change(rng, &all, all[:1])
		}
		g.Learn()
		p := g.Save()
		now := picture(n)
		junk := make([][]byte, 0, 100)
		for range 100 {
			junk = append(junk, make([]byte, 20_000))
		}
		_ = junk
		g.Restore(base)
		if picture(n) != want {
			t.Fatal("the beginning has changed")
		}
		g.Restore(p)
		if picture(n) != now {
			t.Fatal("what was reached is lost")
		}
		g.Drop(p)
		g.Restore(base)
		all = all[:1]
	}
}
