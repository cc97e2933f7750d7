package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// tree is what the packages hold of use to the guest, unpacked. It is made once and kept in the user's cache folder.
type tree struct {
	dir      string
	Packages []string // the files that they came in, which have the versions in their names
	Modules  []string // of the kernel, in the order of loading
}

// The parts of a tree.
func (t *tree) root() string    { return filepath.Join(t.dir, "root") }    // programs and libraries
func (t *tree) modules() string { return filepath.Join(t.dir, "modules") } // NAME.ko each
func (t *tree) vmlinuz() string { return filepath.Join(t.dir, "vmlinuz") }
func (t *tree) headers() string { return filepath.Join(t.dir, "include") } // of rdma-core and nothing else: libc's are the host's
func (t *tree) libs() string    { return filepath.Join(t.root(), "usr/lib/x86_64-linux-gnu") }

const treeFile = "tree.json"

// treeKey changes with whatever a tree is made from.
func treeKey() string {
	h := sha256.New()
	fmt.Fprintln(h, "tree 1", release, packages, modules, optionalModules)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// openTree is the tree in the cache folder, made now if it is not there or if newer packages are wanted.
func openTree(ctx context.Context, cache, mirror string, update bool) (*tree, error) {
	t := &tree{dir: filepath.Join(cache, treeKey())}
	text, err := os.ReadFile(filepath.Join(t.dir, treeFile))
	if err == nil && !update {
		return t, json.Unmarshal(text, t)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	made, err := makeTree(ctx, temp, mirror)
	if err != nil {
		return nil, err
	}
	// Under its name a tree is whole.
	if err := os.RemoveAll(t.dir); err != nil {
		return nil, err
	}
	if err := os.Rename(made.dir, t.dir); err != nil {
		return nil, err
	}
	made.dir = t.dir
	return made, nil
}

// makeTree makes a tree in a folder below temp.
func makeTree(ctx context.Context, temp, mirror string) (*tree, error) {
	a, err := newApt(ctx, temp, mirror)
	if err != nil {
		return nil, &impossibleError{err}
	}
	if err := a.update(ctx); err != nil {
		return nil, &impossibleError{err}
	}
	kernel, err := a.kernelPackages(ctx)
	if err != nil {
		return nil, err
	}
	debs, err := a.download(ctx, append(kernel, packages...))
	if err != nil && !strings.Contains(err.Error(), "Unable to locate package") { // that one would be a fault of the lab's own
		err = &impossibleError{err}
	}
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return nil, err
	}
	t := &tree{dir: filepath.Join(temp, "tree")}
	unpacked := filepath.Join(temp, "kernel")
	for _, file := range files {
		to := t.root()
		if strings.HasPrefix(filepath.Base(file), "linux-") {
			to = unpacked
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return nil, err
		}
		if _, err := output(exec.CommandContext(ctx, "dpkg-deb", "-x", file, to)); err != nil {
			return nil, err
		}
		t.Packages = append(t.Packages, strings.TrimSuffix(filepath.Base(file), ".deb"))
	}
	slices.Sort(t.Packages)
	return t, errors.Join(t.takeKernel(ctx, unpacked), t.takeHeaders(), t.trim(), t.note())
}

// takeKernel copies the kernel and the modules that the guest needs.
func (t *tree) takeKernel(ctx context.Context, from string) error {
	found, err := filepath.Glob(filepath.Join(from, "usr/lib/modules/*/vmlinuz"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("the kernel's package has %d kernels in usr/lib/modules (%v), expected one", len(found), err)
	}
	if err := os.Rename(found[0], t.vmlinuz()); err != nil {
		return err
	}
	t.Modules, err = takeModules(ctx, filepath.Dir(found[0]), t.modules())
	return err
}

func (t *tree) takeHeaders() error {
	if err := os.MkdirAll(t.headers(), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"infiniband", "rdma"} {
		if err := os.Rename(filepath.Join(t.root(), "usr/include", name), filepath.Join(t.headers(), name)); err != nil {
			return err
		}
	}
	return nil
}

// trim removes what no program of the guest reads.
func (t *tree) trim() error {
	for _, name := range []string{"usr/share", "usr/include", "usr/lib/x86_64-linux-gnu/gconv"} {
		if err := os.RemoveAll(filepath.Join(t.root(), name)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) note() error {
	text, err := json.MarshalIndent(t, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.dir, treeFile), text, 0o644)
}

// version is that of the package, as in its file's name.
func (t *tree) version(pkg string) string {
	for _, p := range t.Packages {
		if name, rest, _ := strings.Cut(p, "_"); name == pkg || strings.HasSuffix(pkg, "-") && strings.HasPrefix(name, pkg) {
			v, _, _ := strings.Cut(rest, "_")
			return strings.ReplaceAll(v, "%3a", ":")
		}
	}
	return "?"
}
