package btree_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/pmem"
	"whale/workload"
	"whale/workload/whisper/btree"
	"whale/workload/whisper/tm"
)

const size = 1 << 20

type fataler interface{ Fatal(...any) }

// world is a tree and what it ought to hold.
type world struct {
	t      *rapid.T // of the step under way
	m      *tm.Memory
	tree   btree.Tree
	thread *workload.Thread
	model  map[uint64]uint64
}

func newWorld(t fataler, log ptx.Log) *world {
	r, err := mirror.Open(context.Background(), pmem.HeapOf(mirror.HeadSize+size, pmem.ADR), nil, nil, mirror.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := ptx.Open(r, ptx.Options{Log: log, Lanes: 1, LogSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return &world{nil, tm.New(pool), btree.Tree{Root: pool.Root()}, workload.NewThread(0, 1, workload.Real{}), map[uint64]uint64{}}
}

func (w *world) check() {
	err := w.m.Look(func(tx *tm.Tx) error {
		if err := w.tree.Check(tx, size, func(uint64) {}); err != nil {
			return err
		}
		w.compare(tx)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// compare compares searches with the model.
func (w *world) compare(tx *tm.Tx) {
	keys := slices.Sorted(maps.Keys(w.model))
	from, to := uint64(0), ^uint64(0)
	if rapid.Bool().Draw(w.t, "range") {
		from, to = rapid.Uint64Range(0, 400).Draw(w.t, "from"), rapid.Uint64Range(0, 400).Draw(w.t, "to")
	}
	var want []uint64
	for _, k := range keys {
		if k >= from && k <= to {
			want = append(want, k)
		}
	}
	var got []uint64
	w.tree.Scan(tx, from, to, func(k, v uint64) bool {
		if v != w.model[k] {
			w.t.Fatalf("key %d has value %d, want %d", k, v, w.model[k])
		}
		got = append(got, k)
		return true
	})
	if !slices.Equal(got, want) {
		w.t.Fatalf("keys from %d to %d: %d, want %d", from, to, got, want)
	}
	first, _, ok := w.tree.First(tx, from, to)
	last, _, also := w.tree.Last(tx, from, to)
	if ok != (len(want) > 0) || also != ok || ok && (first != want[0] || last != want[len(want)-1]) {
		w.t.Fatalf("the first and last of %d are %d and %d", want, first, last)
	}
	key := rapid.Uint64Range(0, 400).Draw(w.t, "get")
	value, ok := w.tree.Get(tx, key)
	if expected, there := w.model[key]; ok != there || value != expected {
		w.t.Fatalf("key %d: %d, %v; want %d, %v", key, value, ok, expected, there)
	}
}

// step does one thing.
func (w *world) step(tx *tm.Tx) error {
	key, value := rapid.Uint64Range(0, 400).Draw(w.t, "key"), rapid.Uint64().Draw(w.t, "value")
	_, there := w.model[key]
	switch rapid.IntRange(0, 5).Draw(w.t, "step") {
	case 0, 1:
		if err := w.tree.Insert(tx, key, value); there != errors.Is(err, btree.ErrExists) || !there && err != nil {
			return err
		}
		if !there {
			w.model[key] = value
		}
	case 2: // many in a row
		for range 40 {
			key += 3
			if _, there := w.model[key]; !there {
				if err := w.tree.Insert(tx, key, value); err != nil {
					return err
				}
				w.model[key] = value
			}
		}
	case 3:
		if w.tree.Set(tx, key, value) != there {
			w.t.Fatalf("setting key %d, there: %v", key, there)
		}
		if there {
			w.model[key] = value
		}
	case 4: // many in a row
		for k := range 60 {
			if err := w.remove(tx, key+uint64(k)); err != nil {
				return err
			}
		}
	case 5:
		return w.remove(tx, key)
	}
	return nil
}

func (w *world) remove(tx *tm.Tx, key uint64) error {
	want, there := w.model[key]
	value, ok, err := w.tree.Delete(tx, key)
	if ok != there || value != want {
		w.t.Fatalf("deleting key %d: %d, %v; want %d, %v", key, value, ok, want, there)
	}
	delete(w.model, key)
	return err
}

// TestAgainstModel: the tree is a sorted map, inside a transaction and after it.
func TestAgainstModel(t *testing.T) {
	for _, log := range []ptx.Log{ptx.Undo, ptx.Redo} {
		t.Run(log.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(t, log)
				w.t = t
				for range rapid.IntRange(1, 12).Draw(t, "transactions") {
					before := maps.Clone(w.model)
					abort := rapid.IntRange(0, 5).Draw(t, "abort") == 0
					err := w.m.Run(w.thread, func(tx *tm.Tx) error {
						for range rapid.IntRange(1, 6).Draw(t, "steps") {
							if err := w.step(tx); err != nil {
								return err
							}
							w.compare(tx)
						}
						if abort {
							return errAbort
						}
						return nil
					})
					if abort && err == errAbort {
						w.model = before
					} else if err != nil {
						t.Fatal(err)
					}
					w.check()
				}
			})
		})
	}
}

var errAbort = errors.New("abort")

// TestCheckFindsDamage: what is written over a node is found, and nothing breaks.
func TestCheckFindsDamage(t *testing.T) {
	w := newWorld(t, ptx.Undo)
	var nodes []uint64
	err := w.m.Run(w.thread, func(tx *tm.Tx) error {
		for k := range uint64(300) {
			if err := w.tree.Insert(tx, k*2, k); err != nil {
				return err
			}
		}
		return w.tree.Check(tx, size, func(node uint64) { nodes = append(nodes, node) })
	})
	if err != nil {
		t.Fatal(err)
	}
	damage := func(node, field, word uint64) (found bool) {
		err := w.m.Run(w.thread, func(tx *tm.Tx) error {
			tx.Store64(node+field, word)
			found = errors.Is(w.tree.Check(tx, size, func(uint64) {}), btree.ErrDamaged)
			return errAbort
		})
		if err != errAbort {
			t.Fatal(err)
		}
		return found
	}
	for _, node := range nodes {
		for _, header := range []uint64{0, 1 << 16, 1 << 34, 77, ^uint64(0)} {
			if !damage(node, 0, header) {
				t.Errorf("the header of node %d is %#x, and nothing was found", node, header)
			}
		}
		if !damage(node, 16, ^uint64(0)) && !damage(node, 16, 0) { // one of the two may be the last node's, or the first one's
			t.Errorf("a key of node %d does not belong there, and nothing was found", node)
		}
	}
}
