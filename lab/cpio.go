package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// cpio writes an archive as the kernel unpacks it into its first file system (Documentation/driver-api/early-userspace/
// buffer-format.rst, "newc"). Everything belongs to root.
type cpio struct {
	w     io.Writer
	inode int
	dirs  map[string]bool
	err   error
}

func newCPIO(w io.Writer) *cpio { return &cpio{w: w, dirs: map[string]bool{".": true, "/": true}} }

// Types of files, as in a mode.
const (
	typeDir     = 0o040000
	typeRegular = 0o100000
	typeLink    = 0o120000
)

// dir adds a folder, and those above it, unless they are there.
func (c *cpio) dir(name string) {
	if c.dirs[name] {
		return
	}
	c.dirs[name] = true
	c.dir(path.Dir(name))
	c.entry(name, typeDir|0o755, nil)
}

// bytes adds a file.
func (c *cpio) bytes(name string, perm fs.FileMode, content []byte) {
	c.dir(path.Dir(name))
	c.entry(name, typeRegular|uint32(perm), content)
}

// file adds a file of this machine.
func (c *cpio) file(name, from string) {
	st, err := os.Stat(from)
	if err == nil {
		var content []byte
		if content, err = os.ReadFile(from); err == nil {
			c.bytes(name, st.Mode().Perm(), content)
			return
		}
	}
	c.fail(err)
}

// link adds a symbolic link.
func (c *cpio) link(name, target string) {
	c.dir(path.Dir(name))
	c.entry(name, typeLink|0o777, []byte(target))
}

// close ends the archive.
func (c *cpio) close() error {
	c.entry("TRAILER!!!", 0, nil)
	return c.err
}

func (c *cpio) entry(name string, mode uint32, content []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	nlink, zero := 1, 0
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, mode, zero, zero, nlink, zero, len(content), zero, zero, zero, zero, len(name)+1, zero, name)
	for _, part := range [][]byte{[]byte(header), content} {
		if _, err := c.w.Write(part); err != nil {
			c.fail(err)
			return
		}
		if n := len(part) % 4; n != 0 {
			if _, err := c.w.Write(make([]byte, 4-n)); err != nil {
				c.fail(err)
				return
			}
		}
	}
}

func (c *cpio) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}
