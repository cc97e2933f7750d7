package main

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"whale/lab/steps"
)

// guestPrograms are those of the tree that steps run.
var guestPrograms = []string{
	"usr/bin/ip", "usr/bin/rdma", "usr/bin/ndctl", "usr/sbin/mke2fs",
	"usr/bin/ibv_devinfo", "usr/bin/ibv_rc_pingpong", "usr/bin/redis-cli", "usr/bin/redis-benchmark",
}

// guestFiles are what programs read, or load by a name that stands in no header of theirs.
var guestFiles = []string{"usr/lib/x86_64-linux-gnu/libibverbs/librxe-rdmav*.so", "etc/libibverbs.d/rxe.driver", "etc/mke2fs.conf"}

// writeInitramfs writes the guest's file system: programs of the tree, what was built (by name, to /bin), each with the
// libraries that it needs, the kernel's modules and the plan.
func writeInitramfs(path string, t *tree, built map[string]string, plan steps.Plan) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	g := &guestFS{cpio: newCPIO(z), tree: t, has: map[string]bool{}}
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "run", "bin", "mnt/fsdax"} {
		g.dir(dir)
	}
	g.link("lib64", "usr/lib64")
	for _, name := range guestPrograms {
		if err := g.fromTree(name); err != nil {
			return err
		}
	}
	for _, pattern := range guestFiles {
		found, err := filepath.Glob(filepath.Join(t.root(), pattern))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("the packages have no %s (%v)", pattern, err)
		}
		for _, path := range found {
			if err := g.fromTree(strings.TrimPrefix(path, t.root()+"/")); err != nil {
				return err
			}
		}
	}
	for name, from := range built {
		to := "bin/" + name
		if name == "init" {
			to = name
		}
		g.file(to, from)
		if err := g.libraries(from); err != nil {
			return err
		}
	}
	for _, m := range t.Modules {
		g.file("modules/"+m+".ko", filepath.Join(t.modules(), m+".ko"))
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	g.bytes("plan.json", 0o644, text)
	return errors.Join(g.close(), z.Close())
}

type guestFS struct {
	*cpio
	tree *tree
	has  map[string]bool
}

// fromTree adds a file of the tree at its place, with the libraries that it needs.
func (g *guestFS) fromTree(name string) error {
	if g.has[name] {
		return nil
	}
	g.has[name] = true
	path := filepath.Join(g.tree.root(), name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the packages have no %s", name)
	}
	g.file(name, path) // the target's content, where it is a link
	return g.libraries(path)
}

// libraries adds those that the program or library at path asks for, its loader among them. A file that is no program asks
// for none.
func (g *guestFS) libraries(path string) error {
	content, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(content, []byte(elf.ELFMAG)) {
		return err
	}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	wanted, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, lib := range wanted {
		at := "usr/lib/x86_64-linux-gnu/" + lib
		if strings.HasPrefix(lib, "ld-linux") {
			at = "usr/lib64/" + lib
		}
		if err := g.fromTree(at); err != nil {
			return fmt.Errorf("%s needs %s: %w: add its package to the lab's list", path, lib, err)
		}
	}
	if f.Section(".interp") != nil {
		return g.fromTree("usr/lib64/ld-linux-x86-64.so.2")
	}
	return nil
}
