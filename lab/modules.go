package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// modules of the kernel that the guest asks for; what they depend on comes before them.
var modules = strings.Fields("nfit nd_pmem dax_pmem device_dax ext4 veth bridge rdma_rxe ib_uverbs rdma_ucm")

// optionalModules are loaded before, where the kernel has them: checksums that others ask for by the name of an algorithm,
// which names no module. Without them "rdma link add" fails with ENOENT, and so does mounting.
var optionalModules = strings.Fields("crc32c_cryptoapi crc32_generic crc32c_generic crc32_pclmul crc32c_intel")

// takeModules writes each module that is needed to the folder to, and returns their names in the order of loading. from is
// the kernel's folder of modules.
func takeModules(ctx context.Context, from, to string) (order []string, err error) {
	files := map[string]string{}
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(d.Name(), ".ko"); ok {
			files[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	var take func(name string) error
	take = func(name string) error {
		if taken[name] {
			return nil
		}
		taken[name] = true
		path := files[name]
		if path == "" {
			return fmt.Errorf("the kernel of %s has no module %s", from, name)
		}
		image, err := decompressed(ctx, path)
		if err != nil {
			return err
		}
		depends, err := dependencies(image)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, other := range depends {
			if err := take(other); err != nil {
				return err
			}
		}
		order = append(order, name)
		return os.WriteFile(filepath.Join(to, name+".ko"), image, 0o644)
	}
	for _, name := range optionalModules {
		if files[name] != "" {
			if err := take(name); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range modules {
		if err := take(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleName is the name with underscores: files have dashes too, and both mean the same.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

func decompressed(ctx context.Context, path string) ([]byte, error) {
	if strings.HasSuffix(path, ".ko") {
		return os.ReadFile(path)
	}
	out, err := output(exec.CommandContext(ctx, "xz", "-dc", path))
	return []byte(out), err
}

// dependencies are the modules that must be loaded before this one: depends= in the section .modinfo, which is a row of
// strings that end in zero.
func dependencies(image []byte) (names []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	info := f.Section(".modinfo")
	if info == nil {
		return nil, fmt.Errorf("it has no section .modinfo: it is no kernel module")
	}
	text, err := info.Data()
	if err != nil {
		return nil, err
	}
	for entry := range bytes.SplitSeq(text, []byte{0}) {
		if list, ok := strings.CutPrefix(string(entry), "depends="); ok && list != "" {
			for name := range strings.SplitSeq(list, ",") {
				names = append(names, moduleName(name))
			}
		}
	}
	return names, nil
}
