#compdef outrigger kubectl-outrigger
# Completion of outrigger for zsh. To load it: source <(outrigger completion zsh), after compinit
_outrigger() {
    local -a lines values shown
    local line value
    local -i widest=0
    lines=("${(@f)$("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    case $lines[1] in
        files | dirs)
            [[ $PREFIX == --*=* ]] && compset -P '--*='
            if [[ $lines[1] == dirs ]]; then _files -/; else _files; fi
            return
            ;;
    esac
    lines=("${(@)lines[2,-1]}")
    for line in "${(@)lines}"; do
        value=${line%%$'\t'*}
        values+=("$value")
        (($#value > widest)) && widest=$#value
    done
    for line in "${(@)lines}"; do
        value=${line%%$'\t'*}
        if [[ $line == *$'\t'* ]]; then
            shown+=("${(r:widest:)value}  -- ${line#*$'\t'}")
        else
            shown+=("$value")
        fi
    done
    ((#values)) && compadd -V outrigger -l -d shown -a values
}
if [[ $funcstack[1] == _outrigger ]]; then
    _outrigger "$@"
else
    compdef _outrigger outrigger kubectl-outrigger
fi
