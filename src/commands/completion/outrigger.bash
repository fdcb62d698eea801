# Completion of outrigger for bash. To load it: source <(outrigger completion bash)
_outrigger() {
    # bash breaks words also at = : and @, which contexts contain: they are put together again.
    local rest=${COMP_LINE:0:COMP_POINT} last=$COMP_CWORD part fresh i=0
    local -a words=()
    while ((i <= last)); do
        fresh=
        while [[ $rest == [[:blank:]]* ]]; do
            rest=${rest:1}
            fresh=1
        done
        part=${COMP_WORDS[i]}
        ((i < last)) || part=$rest
        if ((i == 0)) || [[ $fresh ]]; then
            words+=("$part")
        else
            words[${#words[@]} - 1]+=$part
        fi
        rest=${rest#"$part"}
        ((i += 1))
    done
    local current=${words[${#words[@]} - 1]}
    # What bash replaces is the part behind the last of these characters, or from an @ on.
    local part=${current##*["$COMP_WORDBREAKS"]}
    local before=${current%"$part"} kind="" line value
    if [[ $before == *@ ]]; then
        before=${before%@}
        part=@$part
    fi
    # Candidates are as they are, what is typed is quoted for the shell.
    before=${before//\\/}
    words=("${words[@]//\\/}")
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
            continue
        fi
        value=${line%%$'\t'*}
        [[ $value == "$before"* ]] || continue
        value=${value#"$before"}
        # A name from a kubeconfig is not to be run as a command.
        [[ $value != *[!A-Za-z0-9_.,:=@%+/-]* ]] || printf -v value %q "$value"
        COMPREPLY+=("$value")
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
    case $kind in
        files | dirs)
            compopt -o filenames 2>/dev/null
            [[ $kind == dirs ]] && kind=-d || kind=-f
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen "$kind" -- "$part")
            ;;
    esac
}
complete -F _outrigger outrigger kubectl-outrigger
complete -o nosort -F _outrigger outrigger kubectl-outrigger 2>/dev/null
