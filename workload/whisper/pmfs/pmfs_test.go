package pmfs_test

import (
	"bytes"
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
	"whale/workload/whisper/pmfs"
	"whale/workload/whisper/tm"
)

// world is a file system with a directory, and what it ought to hold: names, by path, of files.
type world struct {
	fs     *pmfs.FS
	m      *tm.Memory
	memory *pmem.HeapMemory
	thread *workload.Thread
	names  map[string]*content
}

type content struct{ bytes []byte }

func newWorld(t interface{ Fatal(...any) }) *world {
	memory := pmem.HeapOf(mirror.HeadSize+1<<20, pmem.ADR)
	r, err := mirror.Open(context.Background(), memory, nil, nil, mirror.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := app.Spec{Name: "pmfs", Pool: ptx.Options{Lanes: 1, LogSize: 64 << 10, Root: pmfs.RootSize}}
	w := &world{thread: workload.NewThread(0, 1, app.Still{}), memory: memory, names: map[string]*content{}}
	err = s.Create(r, func(d *app.Data) error {
		w.m, w.fs = tm.New(d.Pool), pmfs.Open(d)
		return w.m.Run(w.thread, func(tx *tm.Tx) error {
			if err := w.fs.Format(tx); err != nil {
				return err
			}
			_, err := w.fs.Mkdir(tx, w.fs.Root(tx), "d")
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// find is the directory and the last part of a path.
func (w *world) find(tx *tm.Tx, path string) (pmfs.Inode, string) {
	name, sub := strings.CutPrefix(path, "d/")
	if !sub {
		return w.fs.Root(tx), name
	}
	dir, err := w.fs.Lookup(tx, w.fs.Root(tx), "d")
	if err != nil {
		panic(err)
	}
	return dir, name
}

// paths are what there may be: names of all lengths, and some in one chain.
var paths = append(pmfs.Colliding(3), "a", "d/a", "d/b", "d/"+strings.Repeat("n", pmfs.MaxName))

// step does one thing, in the file system and in the model.
func (w *world) step(rt *rapid.T, tx *tm.Tx) error {
	path := rapid.SampledFrom(paths).Draw(rt, "path")
	dir, name := w.find(tx, path)
	is, there := w.names[path]
	node, err := w.fs.Lookup(tx, dir, name)
	if there != (err == nil) || !there && !errors.Is(err, pmfs.ErrNotExist) {
		return fmt.Errorf("%s: %w, want it there: %v", path, err, there)
	}
	if !there {
		other := rapid.SampledFrom(append(slices.Sorted(maps.Keys(w.names)), "")).Draw(rt, "other")
		from, old := w.find(tx, other)
		switch kind := rapid.IntRange(0, 2).Draw(rt, "kind"); {
		case kind == 0 || other == "":
			w.names[path] = &content{}
			_, err = w.fs.Create(tx, dir, name)
		case kind == 1:
			w.names[path] = w.names[other]
			if node, err = w.fs.Lookup(tx, from, old); err == nil {
				err = w.fs.Link(tx, dir, name, node)
			}
		default:
			w.names[path] = w.names[other]
			delete(w.names, other)
			err = w.fs.Rename(tx, from, old, dir, name)
		}
		return err
	}
	switch rapid.IntRange(0, 4).Draw(rt, "kind") {
	case 0:
		delete(w.names, path)
		return w.fs.Remove(tx, dir, name)
	case 1:
		if err := w.fs.WriteAt(tx, node, uint64(len(is.bytes))+1, []byte("x")); !errors.Is(err, pmfs.ErrHole) {
			return fmt.Errorf("a hole: %w", err)
		}
		return nil
	}
	off := rapid.IntRange(0, len(is.bytes)).Draw(rt, "off")
	if rapid.Bool().Draw(rt, "append") {
		off = len(is.bytes)
	}
	b := bytes.Repeat([]byte{byte(rapid.IntRange(1, 255).Draw(rt, "byte"))}, rapid.SampledFrom([]int{1, 100, 1024, 3000, 4096, 9000}).Draw(rt, "n"))
	if len(is.bytes)+len(b) > 30_000 {
		return nil
	}
	now := slices.Clone(is.bytes) // others may have the old one, for when the transaction is aborted
	now = append(now[:off:off], append(b, now[min(len(now), off+len(b)):]...)...)
	for p, c := range w.names { // all names of the file
		if c == is && p != path {
			defer func() { w.names[p] = w.names[path] }()
		}
	}
	w.names[path] = &content{now}
	return w.fs.WriteAt(tx, node, uint64(off), b)
}

// compare compares all files with the model.
func (w *world) compare(tx *tm.Tx) error {
	seen := 0
	err := w.fs.Check(tx, func(path string, node pmfs.Inode) error {
		seen++
		want, ok := w.names[path[1:]]
		got := make([]byte, node.Size(tx)+10)
		n, err := w.fs.ReadAt(tx, node, 0, got)
		if !ok || err != nil || !bytes.Equal(got[:n], want.bytes) {
			return fmt.Errorf("%s: there: %v; %d bytes, %w", path, ok, n, err)
		}
		return nil
	})
	if err == nil && seen != len(w.names) {
		err = fmt.Errorf("%d names, want %d", seen, len(w.names))
	}
	return err
}

var errAbort = errors.New("abort")

// TestAgainstModel: the file system is a map of names to files, which may have several, and an aborted transaction leaves nothing.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
			before := maps.Clone(w.names)
			abort := rapid.IntRange(0, 4).Draw(rt, "abort") == 0
			err := w.m.Run(w.thread, func(tx *tm.Tx) error {
				for range rapid.IntRange(1, 3).Draw(rt, "steps") {
					if err := w.step(rt, tx); err != nil {
						return err
					}
				}
				if abort {
					return errAbort
				}
				return nil
			})
			if abort && err == errAbort {
				w.names = before
			} else if err != nil {
				rt.Fatal(err)
			}
			if err := w.m.Look(w.compare); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// TestErrors: what cannot be done says why, and changes nothing.
func TestErrors(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		want error
		do   func(tx *tm.Tx, root, dir, file pmfs.Inode) error
	}{
		"a name that is there": {pmfs.ErrExists, func(tx *tm.Tx, root, _, _ pmfs.Inode) error { _, err := w.fs.Create(tx, root, "d"); return err }},
		"no name":              {pmfs.ErrName, func(tx *tm.Tx, root, _, _ pmfs.Inode) error { _, err := w.fs.Create(tx, root, ""); return err }},
		"a long name": {pmfs.ErrName, func(tx *tm.Tx, root, _, _ pmfs.Inode) error {
			_, err := w.fs.Create(tx, root, strings.Repeat("x", pmfs.MaxName+1))
			return err
		}},
		"a directory with entries": {pmfs.ErrNotEmpty, func(tx *tm.Tx, root, _, _ pmfs.Inode) error { return w.fs.Remove(tx, root, "d") }},
		"a file as a directory":    {pmfs.ErrKind, func(tx *tm.Tx, _, _, file pmfs.Inode) error { _, err := w.fs.Create(tx, file, "x"); return err }},
		"a directory as a file":    {pmfs.ErrKind, func(tx *tm.Tx, _, dir, _ pmfs.Inode) error { return w.fs.WriteAt(tx, dir, 0, []byte("x")) }},
		"a directory read":         {pmfs.ErrKind, func(tx *tm.Tx, _, dir, _ pmfs.Inode) error { _, err := w.fs.ReadAt(tx, dir, 0, nil); return err }},
		"a directory linked":       {pmfs.ErrKind, func(tx *tm.Tx, root, dir, _ pmfs.Inode) error { return w.fs.Link(tx, root, "x", dir) }},
		"a name that is not there": {pmfs.ErrNotExist, func(tx *tm.Tx, root, _, _ pmfs.Inode) error { return w.fs.Rename(tx, root, "x", root, "y") }},
	} {
		err := w.m.Run(w.thread, func(tx *tm.Tx) error {
			root := w.fs.Root(tx)
			dir, err := w.fs.Lookup(tx, root, "d")
			if err != nil {
				return err
			}
			file, err := w.fs.Create(tx, dir, "f")
			if err != nil {
				return err
			}
			if err := c.do(tx, root, dir, file); err != nil {
				return err
			}
			return errAbort
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err := w.m.Look(w.compare); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
