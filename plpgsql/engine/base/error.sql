-- Error messages that may be stored: without the values that PostgreSQL quotes.

-- An error message without values of rows. Errors of the data and of statements quote rows, in the language of the server. Such a message is kept
-- only if it is a known one, with those of its parts that are names. Of any other message, only the code is kept. Unchanged are errors that routines
-- raise themselves, and classes about connections, transactions and resources, which quote no rows.
CREATE OR REPLACE FUNCTION etl._without_values(p_sqlstate text, p_message text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_without_values$
    SELECT CASE
        WHEN p_sqlstate ~ '^(ET|P0|08|0A|21|24|25|26|28|2B|2D|34|3B|3D|3F|40|53|54|55|57|58|72|F0|XX)' OR p_message IS NULL THEN p_message
        ELSE coalesce(
            (
                SELECT regexp_replace(p_message, k.pattern, k.told)
                FROM (
                    VALUES
                        -- What stands in a group is a name of a type, constraint, column or relation.
                        ('^(division by zero|(?:smallint|integer|bigint|numeric|money|interval|timestamp|date) (?:field overflow|out of range))$', '\1'),
                        ('^(value out of range: (?:overflow|underflow)|cannot take logarithm of (?:zero|a negative number))$', '\1'),
                        ('^invalid input syntax for type ([a-z][a-z0-9_ ]*)(?:: ".*")?$', 'invalid input syntax for type \1: (withheld)'),
                        ('^value ".*" is out of range for type ([a-z][a-z0-9_ ]*)$', 'value (withheld) is out of range for type \1'),
                        ('^(date/time field value|time zone displacement|timestamp) out of range: ".*"$', '\1 out of range: (withheld)'),
                        ('^(value too long for type [a-z][a-z0-9_ ]*(?:\([0-9]+\))?)$', '\1'),
                        ('^(a negative number raised to a non-integer power yields a complex result)$', '\1'),
                        ('^(null value in column "[^"]+" of relation "[^"]+" violates not-null constraint)$', '\1'),
                        ('^(domain [a-z_0-9."]+ does not allow null values)$', '\1'),
                        ('^(duplicate key value violates unique constraint "[^"]+")$', '\1'),
                        ('^(could not create unique index "[^"]+")$', '\1'),
                        ('^(conflicting key value violates exclusion constraint "[^"]+")$', '\1'),
                        ('^(new row for relation "[^"]+" violates check constraint "[^"]+")$', '\1'),
                        ('^(check constraint "[^"]+" of relation "[^"]+" is violated by some row)$', '\1'),
                        ('^(insert or update on table "[^"]+" violates foreign key constraint "[^"]+")$', '\1'),
                        ('^(update or delete on table "[^"]+" violates (?:foreign key|RESTRICT setting of foreign key) constraint "[^"]+" on table "[^"]+")$', '\1'),
                        ('^value for domain ([a-z_0-9."]+) violates (check constraint "[^"]+")$', 'value for domain \1 violates \2'),
                        ('^(relation "[a-z_0-9.]+" does not exist)$', '\1'),
                        ('^(column (?:"[a-z_0-9]+"|[a-z_0-9]+\.[a-z_0-9]+) (?:of relation "[a-z_0-9]+" )?does not exist)$', '\1'),
                        ('^(schema "[a-z_0-9]+" does not exist)$', '\1'),
                        ('^((?:function|operator|procedure) [a-z_0-9.]+\((?:[a-z_0-9 ,.]|\[\])*\) does not exist)$', '\1'),
                        ('^(operator does not exist: [a-z0-9_ ]+ [-+*/<>=~!@#%^&|`?]+ [a-z0-9_ ]+)$', '\1'),
                        ('^(the (?:transformation|history) view of "[^"]+" returns (?:more than one row for a key|a change dated after this load|a row without valid_from))$', '\1'),
                        ('^(measure "[^"]+" of aggregate "[^"]+" is not finite)$', '\1'),
                        ('^(could not connect to server "[a-z_0-9]+")$', '\1'),
                        ('^(permission denied for [a-z ]+ [a-z_0-9.]+)$', '\1'),
                        ('^(must be owner of [a-z ]+ [a-z_0-9.]+)$', '\1'),
                        ('^(column "[a-z_0-9]+" is of type [a-z0-9_ ]+ but expression is of type [a-z0-9_ ]+)$', '\1')
                ) AS k (pattern, told)
                WHERE p_message ~ k.pattern
                LIMIT 1
            ),
            format('error %s; its text is withheld, as it may quote a row', p_sqlstate)
        )
    END
$_without_values$;
