# Completion of outrigger for fish. To load it: outrigger completion fish | source
function __outrigger_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l program $words[1]
    set -e words[1]
    set -l lines ($program __complete $words "$current" 2>/dev/null)
    set -l kind $lines[1]
    set -e lines[1]
    switch "$kind"
        case files dirs
            set -l before (string match --regex '^--[^=]*=' -- $current)
            set -l path (string replace --regex '^--[^=]*=' '' -- $current)
            if test $kind = dirs
                printf '%s\n' "$before"(__fish_complete_directories $path)
            else
                printf '%s\n' "$before"(__fish_complete_path $path)
            end
        case words
            printf '%s\n' $lines
    end
end
complete --command outrigger --no-files --keep-order --arguments '(__outrigger_complete)'
complete --command kubectl-outrigger --no-files --keep-order --arguments '(__outrigger_complete)'
