// Package house holds the rules of the house: what may import what, what a protocol core may not know, how large a file
// may be. Each rule is a function over source files that returns what breaks it, so that its test can show it broken on
// made-up files as well as kept on the real ones.
package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Module is the module's path, the prefix of what its packages import from each other.
const Module = "whale"

// File is one Go source file of the module.
type File struct {
	Path string // from the module's root, with slashes
	Src  []byte
	AST  *ast.File
	fset *token.FileSet
}

// Parse makes a File of a source text.
func Parse(path string, src []byte) (*File, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &File{Path: path, Src: src, AST: tree, fset: fset}, nil
}

// Load parses every Go file below root. Folders named testdata, and those that start with a dot or underscore, are not
// part of the module, as for the go command.
func Load(root string) ([]*File, error) {
	var files []*File
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (name == "testdata" || name[0] == '.' || name[0] == '_') {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := Parse(filepath.ToSlash(rel), src)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// Package is the folder of the file, from the module's root: "" is the root itself.
func (f *File) Package() string {
	i := strings.LastIndexByte(f.Path, '/')
	return f.Path[:max(i, 0)]
}

// Test says whether the file belongs to the package's tests.
func (f *File) Test() bool { return strings.HasSuffix(f.Path, "_test.go") }

func (f *File) at(p token.Pos) string {
	return fmt.Sprintf("%s:%d", f.Path, f.fset.Position(p).Line)
}

// imports yields each import of the file with its path unquoted.
func (f *File) imports(yield func(spec *ast.ImportSpec, path string) bool) {
	for _, spec := range f.AST.Imports {
		if !yield(spec, strings.Trim(spec.Path.Value, "`\"")) {
			return
		}
	}
}

// Format reports a file that gofmt would change.
func Format(f *File) []string {
	want, err := format.Source(f.Src)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", f.Path, err)}
	}
	if !bytes.Equal(want, f.Src) {
		return []string{f.Path + ": not formatted: run gofmt -w on it"}
	}
	return nil
}

// MaxLines is the size from which on a file holds more than one concept.
const MaxLines = 800

// Size reports a file that is too long.
func Size(f *File) []string {
	if n := bytes.Count(f.Src, []byte{'\n'}); n > MaxLines {
		return []string{fmt.Sprintf("%s: %d lines, at most %d: split it by concept", f.Path, n, MaxLines)}
	}
	return nil
}

// Documented reports the packages in which no file has a package comment.
func Documented(files []*File) []string {
	has := map[string]bool{}
	for _, f := range files {
		if !f.Test() {
			has[f.Package()] = has[f.Package()] || f.AST.Doc.Text() != ""
		}
	}
	var bad []string
	for pkg, ok := range has {
		if !ok {
			bad = append(bad, fmt.Sprintf("%s: no file has a package comment that says what the package is", pkg))
		}
	}
	slices.Sort(bad)
	return bad
}
