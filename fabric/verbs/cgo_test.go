package verbs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// TestWhoCallsC: one file, library.go, and nothing that it hands to C is the address of a variable of Go's. The runtime's
// own check (cgocheck) sees pointers to Go memory inside what is passed, not what C keeps.
func TestWhoCallsC(t *testing.T) {
	if _, err := os.Stat("library.go"); err != nil {
		t.Skipf("the sources are not here: %v", err)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range file.Imports {
			if i.Path.Value == `"C"` && name != "library.go" {
				t.Errorf("%s imports C", name)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || !isC(f.X) {
				return true
			}
			calls++
			for _, arg := range call.Args {
				ast.Inspect(arg, func(n ast.Node) bool { // also inside conversions
					if u, ok := n.(*ast.UnaryExpr); ok && u.Op == token.AND {
						t.Errorf("%s: the address of a variable goes to C", fset.Position(u.Pos()))
					}
					return true
				})
			}
			return true
		})
	}
	if calls < 20 {
		t.Errorf("only %d calls of C found: the rule would hold of anything", calls)
	}
}

func isC(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "C"
}
