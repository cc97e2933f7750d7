package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"regexp"
)

// unfinished are words that say that something is not done. What is missing belongs into the documents or the tracker,
// where people look for it.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

// elsewhere are words that mean nothing to a reader of the repository: numbers of tickets, places on somebody's machine.
var elsewhere = regexp.MustCompile(`(?i)\b(issue|ticket|task) #?[0-9]+\b|(^|[\s"'(])/(work|home|Users)/\w`)

// Words reports words that do not belong into the repository, in comments and in text.
func Words(f *File) []string {
	var bad []string
	check := func(n ast.Node, text string) {
		for _, rule := range []*regexp.Regexp{unfinished, elsewhere} {
			if m := rule.FindString(text); m != "" {
				bad = append(bad, fmt.Sprintf("%s: %q has no place here", f.at(n.Pos()), string(bytes.TrimSpace([]byte(m)))))
			}
		}
	}
	for _, group := range f.AST.Comments {
		for _, c := range group.List {
			check(c, c.Text)
		}
	}
	ast.Inspect(f.AST, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok {
			check(lit, lit.Value)
		}
		return true
	})
	return bad
}
