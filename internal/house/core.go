package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// core are the packages that one goroutine steps and that a simulation replays from a seed: they do no I/O, start
// nothing, lock nothing and have no clock; time comes in as a number.
var core = []string{"internal/replication", "internal/replication/*", "internal/shard"}

// outside are the packages (and all below them) that would let the outside in. sync/atomic is not sync: words that
// other threads read are part of the design.
var outside = []string{"net", "os", "sync", "syscall", "log", "math/rand", "io/fs", "runtime", "context", "golang.org/x/sys"}

// durations is what is allowed of package time: amounts, not clocks.
var durations = []string{"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}

func inCore(pkg string) bool {
	dir, _, _ := cutLast(pkg)
	return slices.Contains(core, pkg) || slices.Contains(core, dir+"/*")
}

// Pure reports what a file of the core knows of the outside: packages, clocks, goroutines, channels. Tests are free.
func Pure(f *File) []string {
	if f.Test() || !inCore(f.Package()) {
		return nil
	}
	var bad []string
	report := func(p token.Pos, format string, args ...any) {
		bad = append(bad, f.at(p)+": the core "+fmt.Sprintf(format, args...))
	}
	clock := "" // the name under which this file knows package time
	for spec, path := range f.imports {
		for _, out := range outside {
			if (path == out || strings.HasPrefix(path, out+"/")) && path != "sync/atomic" {
				report(spec.Pos(), "imports %s", path)
			}
		}
		if path == "time" {
			clock = "time"
			if spec.Name != nil {
				clock = spec.Name.Name
			}
			if clock == "." {
				report(spec.Pos(), "imports time without its name, which hides clocks")
			}
		}
	}
	ast.Inspect(f.AST, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report(n.Pos(), "starts a goroutine")
		case *ast.SelectStmt:
			report(n.Pos(), "selects between channels")
		case *ast.ChanType:
			report(n.Pos(), "has a channel")
		case *ast.SendStmt:
			report(n.Pos(), "sends on a channel")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				report(n.Pos(), "receives from a channel")
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && clock != "" && x.Name == clock && !slices.Contains(durations, n.Sel.Name) {
				report(n.Pos(), "uses time.%s: only durations are allowed", n.Sel.Name)
			}
		}
		return true
	})
	return bad
}
