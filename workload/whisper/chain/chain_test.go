package chain_test

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/pmem"
	"whale/workload/whisper/app"
	"whale/workload/whisper/chain"
)

const entrySize = chain.Own + 8

func data(t rapid.TB) *app.Data {
	r, err := mirror.Open(context.Background(), pmem.HeapOf(mirror.HeadSize+256<<10, pmem.ADR), nil, nil, mirror.Options{})
	if err != nil {
		t.Fatal(err)
	}
	spec := app.Spec{Name: "chain", Pool: ptx.Options{Lanes: 1}}
	if err := spec.Create(r, func(*app.Data) error { return nil }); err != nil {
		t.Fatal(err)
	}
	d, err := spec.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAgainstModel: whatever is pushed, removed and grown, the table is what a map is. Hashes collide, and keys tell them apart.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, model := data(t), map[uint64]uint64{} // by key, which is hash and one bit: the place
		var table chain.Table
		do := func(f func(tx *ptx.Tx) error) {
			if err := d.Do(f); err != nil {
				t.Fatal(err)
			}
		}
		do(func(tx *ptx.Tx) (err error) { table, err = chain.Make(tx, 1); return err })
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			key := rapid.Uint64Range(0, 15).Draw(t, "key")
			entry, link, steps := table.Find(d.Region, key/2, func(e uint64) bool { return d.Region.Load64(e+chain.Own) == key })
			if entry != model[key] || steps > len(model) {
				t.Fatalf("key %d is found at %d in %d steps, want %d", key, entry, steps, model[key])
			}
			switch {
			case rapid.IntRange(0, 9).Draw(t, "grow") == 0 && table.Buckets < 64:
				do(func(tx *ptx.Tx) (err error) { table, err = table.Grow(tx, 2*table.Buckets); return err })
			case entry != 0:
				do(func(tx *ptx.Tx) error { chain.Remove(tx, entry, link); return tx.Free(entry) })
				delete(model, key)
			default:
				do(func(tx *ptx.Tx) (err error) {
					if entry, err = tx.Alloc(entrySize); err == nil {
						tx.Store64(entry+chain.Own, key)
						table.Push(tx, entry, key/2)
					}
					return err
				})
				model[key] = entry
			}
			seen := map[uint64]uint64{}
			err := table.Walk(d, entrySize, func(e uint64) error { seen[d.Region.Load64(e+chain.Own)] = e; return nil })
			if err != nil || !maps.Equal(seen, model) {
				t.Fatalf("the table has %v, %v, want %v", seen, err, model)
			}
			if err := d.Owned(append(slices.Collect(maps.Values(model)), table.At)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestWalkTrustsNothing: rings, places outside, wrong buckets and sizes are errors, and no panics or endless loops.
func TestWalkTrustsNothing(t *testing.T) {
	d := data(t)
	var table chain.Table
	var a, b uint64
	err := d.Do(func(tx *ptx.Tx) (err error) {
		if table, err = chain.Make(tx, 2); err != nil {
			return err
		}
		a, _ = tx.Alloc(entrySize)
		table.Push(tx, a, 2)
		b, err = tx.Alloc(entrySize)
		table.Push(tx, b, 4)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	walk := func(table chain.Table) error {
		return table.Walk(d, entrySize, func(uint64) error { return nil })
	}
	if err := walk(table); err != nil {
		t.Fatal(err)
	}
	le, bytes := binary.LittleEndian, d.Region.Bytes()
	for name, at := range map[string]uint64{"a bucket": table.At, "the last entry's next": a, "its hash": a + 8} {
		was := le.Uint64(bytes[at:])
		for _, v := range []uint64{a, b, 1, 3, 1 << 40, ^uint64(7), ^uint64(0), d.Region.Size(), d.Region.Size() - 8} {
			if v == was || name == "a bucket" && v == a || name == "its hash" && v%2 == 0 {
				continue // as good as another
			}
			le.PutUint64(bytes[at:], v)
			if err := walk(table); !errors.Is(err, app.ErrDamaged) {
				t.Errorf("%s is %d: %v", name, v, err)
			}
		}
		le.PutUint64(bytes[at:], was)
	}
	for _, bad := range []chain.Table{{}, {At: table.At, Buckets: 3}, {At: table.At, Buckets: 1 << 40}, {At: ^uint64(7), Buckets: 2}, {At: 3, Buckets: 2}} {
		if err := walk(bad); !errors.Is(err, app.ErrDamaged) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
