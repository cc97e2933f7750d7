package relational_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/pmem"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/btree"
	"whale/workload/whisper/relational"
)

// people have a number, a short and a long text, and an index by the number, which never changes.
var people = relational.Schema{Name: "people",
	Columns: []relational.Column{relational.Int("number"), relational.Text("short", 12), relational.Text("long", 90), relational.Int("balance")},
	Indexes: []func(relational.Tuple) uint64{func(u relational.Tuple) uint64 { return uint64(u.Int(0))<<16 | u.Key() }},
}

var others = relational.Schema{Name: "others", Columns: []relational.Column{relational.Int("n")}}

type world struct {
	data   *app.Data
	db     *relational.DB
	thread *workload.Thread
}

func newWorld(t interface{ Fatal(...any) }) *world {
	r, err := mirror.Open(context.Background(), pmem.HeapOf(mirror.HeadSize+1<<20, pmem.ADR), nil, nil, mirror.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := app.Spec{Name: "people", Pool: ptx.Options{Lanes: 1, Root: relational.RootSize(others, people)}}
	if err := s.Create(r, func(*app.Data) error { return nil }); err != nil {
		t.Fatal(err)
	}
	d, err := s.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	return &world{d, relational.Open(d, others, people), workload.NewThread(0, 1, app.Still{})}
}

type person struct {
	number, balance int64
	short, long     string
}

var errAbort = errors.New("abort")

// TestAgainstModel: a table is a map of rows, whose index is in order, and an aborted transaction leaves nothing.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, model := newWorld(t), map[uint64]person{}
		table := w.db.Table("people")
		text := rapid.StringOfN(rapid.RuneFrom([]rune("abc")), 0, 12, 12)
		for range rapid.IntRange(1, 15).Draw(rt, "transactions") {
			before := maps.Clone(model)
			abort := rapid.IntRange(0, 4).Draw(rt, "abort") == 0
			err := w.db.Run(w.thread, func(tx *relational.Tx) error {
				for range rapid.IntRange(1, 8).Draw(rt, "statements") {
					key := rapid.Uint64Range(1, 40).Draw(rt, "key")
					u, ok := table.Get(tx, key)
					p, there := model[key]
					if ok != there {
						rt.Fatalf("key %d: %v, want %v", key, ok, there)
					}
					switch {
					case !there:
						p = person{rapid.Int64Range(0, 9).Draw(rt, "number"), -5, text.Draw(rt, "short"), strings.Repeat(text.Draw(rt, "long"), 7)}
						if err := table.Insert(tx, key, relational.Row{{Int: p.number}, {Text: p.short}, {Text: p.long}, {Int: p.balance}}); err != nil {
							return err
						}
						model[key] = p
					case rapid.IntRange(0, 3).Draw(rt, "delete") == 0:
						if err := table.Delete(tx, u); err != nil {
							return err
						}
						delete(model, key)
					default:
						p.balance, p.short, p.long = p.balance+7, text.Draw(rt, "short"), strings.Repeat(text.Draw(rt, "long"), 3)
						u.SetInt(3, p.balance)
						if err := errors.Join(u.SetText(1, p.short), u.SetText(2, p.long)); err != nil {
							return err
						}
						model[key] = p
					}
				}
				compare(rt, tx, table, model)
				if abort {
					return errAbort
				}
				return nil
			})
			if abort && err == errAbort {
				model = before
			} else if err != nil {
				rt.Fatal(err)
			}
			err = w.db.Look(func(tx *relational.Tx) error {
				compare(rt, tx, table, model)
				return w.db.Check(tx)
			})
			if err != nil {
				rt.Fatal(err)
			}
		}
	})
}

func compare(rt *rapid.T, tx *relational.Tx, table *relational.Table, model map[uint64]person) {
	var want, got []string
	keys := slices.SortedFunc(maps.Keys(model), func(a, b uint64) int {
		return int(model[a].number<<16|int64(a)) - int(model[b].number<<16|int64(b))
	})
	for _, k := range keys {
		want = append(want, fmt.Sprint(k, model[k]))
	}
	table.Scan(tx, 1, 0, ^uint64(0), func(u relational.Tuple) bool {
		got = append(got, fmt.Sprint(u.Key(), person{u.Int(0), u.Int(3), u.Text(1), u.Text(2)}))
		return true
	})
	if !slices.Equal(got, want) {
		rt.Fatalf("rows by number:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestCheck: a row without its index entry, an index entry under another key, a text that is nobody's: each is found.
func TestCheck(t *testing.T) {
	for name, spoil := range map[string]func(w *world, tx *relational.Tx, u relational.Tuple) error{
		"the column of an index was changed": func(w *world, tx *relational.Tx, u relational.Tuple) error { u.SetInt(0, 77); return nil },
		"a block is nobody's":                func(w *world, tx *relational.Tx, u relational.Tuple) error { _, err := tx.Alloc(64); return err },
		"an index lacks a row": func(w *world, tx *relational.Tx, u relational.Tuple) error {
			_, _, err := btree.Tree{Root: w.data.Root + 16}.Delete(tx, 9<<16|1)
			return err
		},
		"the primary index lacks a row": func(w *world, tx *relational.Tx, u relational.Tuple) error {
			_, _, err := btree.Tree{Root: w.data.Root + 8}.Delete(tx, 1)
			return err
		},
	} {
		w := newWorld(t)
		table := w.db.Table("people")
		err := w.db.Run(w.thread, func(tx *relational.Tx) error {
			for key := range uint64(3) {
				if err := table.Insert(tx, key, relational.Row{{Int: 9}, {}, {Text: "long"}, {}}); err != nil {
					return err
				}
			}
			return w.db.Check(tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		err = w.db.Run(w.thread, func(tx *relational.Tx) error {
			u, _ := table.Get(tx, 1)
			return spoil(w, tx, u)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.db.Look(w.db.Check); !errors.Is(err, app.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExists: a second row with the same key is an error.
func TestExists(t *testing.T) {
	w := newWorld(t)
	err := w.db.Run(w.thread, func(tx *relational.Tx) error {
		if err := w.db.Table("others").Insert(tx, 5, relational.Row{{Int: 1}}); err != nil {
			return err
		}
		return w.db.Table("others").Insert(tx, 5, relational.Row{{Int: 2}})
	})
	if !errors.Is(err, btree.ErrExists) {
		t.Error(err)
	}
}
